// One step of a Llama-shaped decoder in bfloat16 with a float32 residual stream: see decoder.h.
//
// Per layer: norm, one product for queries, keys and values, rotation and writing into pages, attention, product into
// the residual stream, norm, one product for both factors of the inner layer with their SiLU product, and the product
// back. What each token does by itself is shared out by tokens, the products by features (linear.cpp).
#include "decoder.h"

#include <math.h>

#include "linear_tiles.h"

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

// Sixteen numbers, or the first eight of them: storing with a mask takes many cycles.
inline void narrow(Vec x, bool is_whole, uint16_t *to) {
  const auto narrowed = (__m256i)_mm512_cvtneps_pbh(x);
  if (is_whole) _mm256_storeu_si256((__m256i *)to, narrowed);
  else _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(narrowed));
}

// One head: normalized if it has a norm, then turned in the planes (i, i + D/2). Its size is a multiple of 16.
void turn_head(uint16_t *head, const float *norm, float epsilon, const float *turns, int size) {
  const int half = size / 2;
  const auto numbers = [](const uint16_t *from, __mmask16 inside) { return widen(_mm256_maskz_loadu_epi16(inside, from)); };
  Vec factor = fill(1.f);
  if (norm) {
    Vec squares = fill(0.f);
    for (int i = 0; i < size; i += 16) {
      const Vec x = numbers(head + i, lanes(size - i));
      squares = fma(x, x, squares);
    }
    factor = fill(1.f / sqrtf(sum_of(squares) / size + epsilon));
  }
  for (int i = 0; i < half; i += 16) {
    const __mmask16 inside = lanes(half - i);
    const auto load_inside = [inside](const float *from) { return _mm512_maskz_loadu_ps(inside, from); };
    Vec a = numbers(head + i, inside), b = numbers(head + i + half, inside);
    if (norm) a = mul(mul(a, factor), load_inside(norm + i)), b = mul(mul(b, factor), load_inside(norm + i + half));
    const Vec cosines = load_inside(turns + i), sines = load_inside(turns + half + i);
    narrow(sub(mul(a, cosines), mul(b, sines)), half - i >= 16, head + i);
    narrow(add(mul(b, cosines), mul(a, sines)), half - i >= 16, head + i + half);
  }
}

void multiply(const DecoderArgs &d, const LinearWeight &weight, const uint16_t *x, void *y, int64_t y_stride, int rows,
              LinearResult result) {
  const LinearArgs args = {weight, x, d.rearranged, y, weight.k, y_stride, rows, result, d.num_threads};
  specserve_linear_avx512_bf16(&args);
}

// Adds to y float32 [tokens, weight.n] what the adapters do to their rows.
void add_adapters(const DecoderArgs &d, int layer, AdapterProduct AdapterLayer::*which, const uint16_t *x, float *y,
                  int64_t y_stride) {
  for (int i = 0; i < d.num_adapters; i++) {
    const AdapterRows &rows = d.adapters[i];
    const AdapterProduct &product = rows.layers[layer].*which;
    if (!product.a.packed) continue;
    multiply(d, product.a, x + (int64_t)rows.first * product.a.k, d.low, product.a.n, rows.count, kBfloat16);
    multiply(d, product.b, d.low, y + rows.first * y_stride, y_stride, rows.count, kAddTo);
  }
}

// The products whose results are rounded at once. Where there are adapters the sums are kept until those have been
// added, and rows without any are rounded from the same sums as ever.
void project(const DecoderArgs &d, int index, const DecoderLayer &layer) {
  const int width = layer.qkv.n;
  if (!d.num_adapters) return multiply(d, layer.qkv, d.normed, d.projected, width, d.num_tokens, kBfloat16);
  multiply(d, layer.qkv, d.normed, d.wide, width, d.num_tokens, kFloat32);
  add_adapters(d, index, &AdapterLayer::qkv, d.normed, d.wide, width);
  for_each(d.num_tokens, width, d.num_threads, [&](int t) {
    const float *from = d.wide + (int64_t)t * width;
    uint16_t *to = d.projected + (int64_t)t * width;
    for (int i = 0; i < width; i += 16)
      _mm256_storeu_si256((__m256i *)(to + i), (__m256i)_mm512_cvtneps_pbh(load(from + i)));
  });
}

void gate_and_up(const DecoderArgs &d, int index, const DecoderLayer &layer) {
  const int inner = layer.down.k;
  if (!d.num_adapters) return multiply(d, layer.gate_up, d.normed, d.inner, inner, d.num_tokens, kSiluMul);
  multiply(d, layer.gate_up, d.normed, d.wide, 2 * inner, d.num_tokens, kFloat32);
  add_adapters(d, index, &AdapterLayer::gate_up, d.normed, d.wide, 2 * inner);
  for_each(d.num_tokens, 2 * inner, d.num_threads, [&](int t) {
    const float *from = d.wide + (int64_t)t * 2 * inner;
    uint16_t *to = d.inner + (int64_t)t * inner;
    for (int i = 0; i < inner; i += 16) {
      const Vec y = mul(silu_of(load(from + 2 * i)), load(from + 2 * i + 16));
      _mm256_storeu_si256((__m256i *)(to + i), (__m256i)_mm512_cvtneps_pbh(y));
    }
  });
}

int run_layer(const DecoderArgs &d, int index) {
  const DecoderLayer &layer = d.layers[index];
  const int tokens = d.num_tokens, size = d.hidden_size, head = d.head_size;
  const int heads = d.num_heads + 2 * d.num_kv_heads;
  const auto normed_by = [&](const float *weight) {
    return [&d, weight, size](int t) {
      normalize(d.hidden + (int64_t)t * size, weight, d.epsilon, size, d.normed + (int64_t)t * size);
    };
  };
  for_each(tokens, size, d.num_threads, normed_by(layer.attention_norm));
  project(d, index, layer);
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
  add_adapters(d, index, &AdapterLayer::out, d.attended, d.hidden, size);
  for_each(tokens, size, d.num_threads, normed_by(layer.mlp_norm));
  gate_and_up(d, index, layer);
  multiply(d, layer.down, d.inner, d.hidden, size, tokens, kAddTo);
  add_adapters(d, index, &AdapterLayer::down, d.inner, d.hidden, size);
  return 0;
}
}  // namespace

// Returns 0, or 1 when memory for scratch space cannot be had.
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
    if (run_layer(d, i)) return 1;
  for_each(d.num_rows, d.hidden_size, d.num_threads, [&](int r) {
    normalize(d.hidden + d.rows[r] * d.hidden_size, d.final_norm, d.epsilon, d.hidden_size,
              d.normed + (int64_t)r * d.hidden_size);
  });
  if (d.screen && d.num_rows) {
    ScreenArgs &s = *d.screen;
    s.head = d.head, s.x = d.normed, s.scratch = d.rearranged, s.y = d.logits;
    s.m = d.num_rows, s.num_threads = d.num_threads;
    return specserve_screen_avx512_bf16(&s);
  }
  if (d.num_rows && d.head.packed) multiply(d, d.head, d.normed, d.logits, d.head.n, d.num_rows, kFloat32);
  return 0;
}
