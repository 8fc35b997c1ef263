// One step of a Llama-shaped decoder in bfloat16 with a float32 residual stream: see decoder.h.
//
// Per layer: norm, one product for queries, keys and values, rotation and writing into pages, attention, product into
// the residual stream, norm, one product for both factors of the inner layer with their SiLU product, and the product
// back. What each token does by itself is shared out by tokens, the products by features (linear.cpp).
#include "decoder.h"

#include <math.h>

#include "threads.h"
#include "vectors.h"

namespace {
// to = from / rms(from) * weight; sizes are multiples of 16.
inline void normalize(const float *from, const float *weight, float epsilon, int size, uint16_t *to) {
  Vec squares = fill(0.f);
  for (int i = 0; i < size; i += 16) squares = fma(load(from + i), load(from + i), squares);
  const Vec factor = fill(1.f / sqrtf(sum_of(squares) / size + epsilon));
  for (int i = 0; i < size; i += 16) {
    const Vec y = mul(mul(load(from + i), factor), load(weight + i));
    _mm256_storeu_si256((__m256i *)(to + i), (__m256i)_mm512_cvtneps_pbh(y));
  }
}

inline Vec widen(const uint16_t *from) { return widen(_mm256_loadu_si256((const __m256i *)from)); }

// One head: normalized if it has a norm, then turned in the planes (i, i + D/2).
void turn_head(uint16_t *head, const float *norm, float epsilon, const float *turns, int size) {
  float x[512];
  for (int i = 0; i < size; i += 16) store(x + i, widen(head + i));
  if (norm) {
    Vec squares = fill(0.f);
    for (int i = 0; i < size; i += 16) squares = fma(load(x + i), load(x + i), squares);
    const Vec factor = fill(1.f / sqrtf(sum_of(squares) / size + epsilon));
    for (int i = 0; i < size; i += 16) store(x + i, mul(mul(load(x + i), factor), load(norm + i)));
  }
  const int half = size / 2;
  const float *cosines = turns, *sines = turns + half;
  for (int i = 0; i < half; i++) {
    const float a = x[i], b = x[i + half];
    head[i] = to_bf16(a * cosines[i] - b * sines[i]);
    head[i + half] = to_bf16(b * cosines[i] + a * sines[i]);
  }
}

void multiply(const DecoderArgs &d, const LinearWeight &weight, const uint16_t *x, void *y, int64_t y_stride, int rows,
              LinearResult result) {
  const LinearArgs args = {weight, x, d.rearranged, y, weight.k, y_stride, rows, result, d.num_threads};
  specserve_linear_avx512_bf16(&args);
}

int run_layer(const DecoderArgs &d, const DecoderLayer &layer) {
  const int tokens = d.num_tokens, size = d.hidden_size, head = d.head_size;
  const int heads = d.num_heads + 2 * d.num_kv_heads;
  const auto normed_by = [&](const float *weight) {
    return [&d, weight, size](int t) {
      normalize(d.hidden + (int64_t)t * size, weight, d.epsilon, size, d.normed + (int64_t)t * size);
    };
  };
  for_each(tokens, size, d.num_threads, normed_by(layer.attention_norm));
  multiply(d, layer.qkv, d.normed, d.projected, (int64_t)heads * head, tokens, kBfloat16);
  for_each(tokens, (int64_t)heads * head, d.num_threads, [&](int t) {
    for (int h = 0; h < d.num_heads + d.num_kv_heads; h++) {
      const float *norm = h < d.num_heads ? layer.query_norm : layer.key_norm;
      turn_head(d.projected + ((int64_t)t * heads + h) * head, norm, d.epsilon, d.turns + (int64_t)t * head, head);
    }
  });
  const int64_t stride = (int64_t)heads * head;
  const uint16_t *keys = d.projected + (int64_t)d.num_heads * head, *values = keys + (int64_t)d.num_kv_heads * head;
  const WriteArgs write = {keys, values, layer.keys, layer.values, d.slots, stride, head, stride, head,
                           tokens, d.num_kv_heads, head, head, 1, d.is_int8, d.num_threads};
  specserve_write_pages(&write);
  const AttendArgs attend = {d.projected, layer.keys, layer.values, d.attended, nullptr,
                             d.block_tables, d.seq_lens, d.query_start, stride, head,
                             d.num_seqs, d.num_heads, d.num_kv_heads, head, head, d.block_size, d.table_stride,
                             layer.window, 0, 1, d.is_int8, d.num_threads, d.scale, 0.f};
  if (specserve_attend_avx512_bf16(&attend)) return 1;
  multiply(d, layer.out, d.attended, d.hidden, size, tokens, kAddTo);
  for_each(tokens, size, d.num_threads, normed_by(layer.mlp_norm));
  multiply(d, layer.gate_up, d.normed, d.inner, layer.down.k, tokens, kSiluMul);
  multiply(d, layer.down, d.inner, d.hidden, size, tokens, kAddTo);
  return 0;
}
}  // namespace

// Returns 0, or 1 when memory for attention's scratch space cannot be had.
extern "C" int specserve_decode_avx512_bf16(const DecoderArgs *args) {
  const DecoderArgs &d = *args;
  const int half = d.head_size / 2;
  for_each(d.num_tokens, 16 * d.head_size, d.num_threads, [&](int t) {
    float *turns = d.turns + (int64_t)t * d.head_size;
    for (int i = 0; i < half; i++) {
      const float angle = (float)d.positions[t] * d.frequencies[i];
      turns[i] = cosf(angle) * d.rotary_scale, turns[i + half] = sinf(angle) * d.rotary_scale;
    }
  });
  for (int i = 0; i < d.num_layers; i++)
    if (run_layer(d, d.layers[i])) return 1;
  for_each(d.num_rows, d.hidden_size, d.num_threads, [&](int r) {
    normalize(d.hidden + d.rows[r] * d.hidden_size, d.final_norm, d.epsilon, d.hidden_size,
              d.normed + (int64_t)r * d.hidden_size);
  });
  if (d.num_rows && d.head.packed) multiply(d, d.head, d.normed, d.logits, d.head.n, d.num_rows, kFloat32);
  return 0;
}
