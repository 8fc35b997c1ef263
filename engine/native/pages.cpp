// What of the CPU kernels needs no special instructions: writing keys and values into pages, and asking the
// processor which variants of the others it can run.
#include <xmmintrin.h>

#include "attention.h"
#include "hadamard.h"

namespace {
template <class T, int kPair> void write_token(const WriteArgs &a, int64_t token) {
  const int64_t slot = a.slots[token], page = slot / kPage, at = slot % kPage;
  if (slot < 0) return;
  const int key_rows = (a.head_size + kPair - 1) / kPair, width = (a.value_head_size + 15) / 16 * 16;
  for (int h = 0; h < a.num_kv_heads; h++) {
    const T *key = (const T *)a.key + token * a.key_token_stride + h * a.key_head_stride;
    const T *value = (const T *)a.value + token * a.value_token_stride + h * a.value_head_stride;
    T *to_key = (T *)a.keys + (page * a.num_kv_heads + h) * key_rows * kPage * kPair;
    T *to_value = (T *)a.values + (page * a.num_kv_heads + h) * kPage * width + at / kPair * width * kPair;
    for (int d = 0; d < a.head_size; d++) to_key[(d / kPair * kPage + at) * kPair + d % kPair] = key[d];
    for (int d = 0; d < a.value_head_size; d++) to_value[d * kPair + at % kPair] = value[d];
  }
}

inline uint32_t bits_of(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}
inline float float_of(uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}
inline float widen(uint32_t float32_bits) { return float_of(float32_bits); }
inline float widen(uint16_t bf16) { return float_of((uint32_t)bf16 << 16); }

// One head of a token as bytes, `place(d)` is where number d goes. Returns the scale: NaN where a number is not finite,
// zero where all of them are next to nothing.
template <class Place> uint16_t write_bytes(const float *x, int size, const Place &place) {
  uint32_t largest = 0;  // bits of positive floats are in the order of the floats, NaN last
  for (int d = 0; d < size; d++) {
    const uint32_t u = bits_of(x[d]) & 0x7fffffff;
    largest = u > largest ? u : largest;
  }
  const uint16_t scale = largest >= 0x7f800000 ? 0x7fc0 : (uint16_t)((bits_of(float_of(largest) / 127.f) + 0xffff) >> 16);
  const bool is_usable = scale >= 0x0400 && scale < 0x7f80;  // the smallest one: 2^-119
  const float inverse = is_usable ? 1.f / widen(scale) : 0.f;
  for (int d = 0; d < size; d++) *place(d) = is_usable ? (int8_t)_mm_cvtss_si32(_mm_set_ss(x[d] * inverse)) : 0;
  return is_usable || scale >= 0x7f80 ? scale : 0;
}

template <class T> void write_int8_token(const WriteArgs &a, int64_t token) {
  const int64_t slot = a.slots[token], page = slot / kPage, at = slot % kPage;
  if (slot < 0) return;
  const int64_t width = (a.value_head_size + 15) / 16 * 16;
  const int64_t key_bytes = (int64_t)(a.head_size + 1) / 2 * 2 * kPage, value_bytes = width * kPage, scales = 2 * kPage;
  for (int h = 0; h < a.num_kv_heads; h++) {
    const T *key = (const T *)a.key + token * a.key_token_stride + h * a.key_head_stride;
    const T *value = (const T *)a.value + token * a.value_token_stride + h * a.value_head_stride;
    int8_t *to_key = (int8_t *)a.keys + (page * a.num_kv_heads + h) * (key_bytes + scales);
    int8_t *to_value = (int8_t *)a.values + (page * a.num_kv_heads + h) * (value_bytes + scales);
    float x[kMostTurned];
    for (int d = 0; d < a.head_size; d++) x[d] = widen(key[d]);
    turn(x, a.head_size);
    ((uint16_t *)(to_key + key_bytes))[at] =
        write_bytes(x, a.head_size, [=](int d) { return to_key + (d / 2 * kPage + at) * 2 + d % 2; });
    for (int d = 0; d < a.value_head_size; d++) x[d] = widen(value[d]);
    ((uint16_t *)(to_value + value_bytes))[at] =
        write_bytes(x, a.value_head_size, [=](int d) { return to_value + (at / 2 * width + d) * 2 + at % 2; });
  }
}

void write_any(const WriteArgs &a, int64_t token) {
  if (a.is_int8)
    a.is_bf16 ? write_int8_token<uint16_t>(a, token) : write_int8_token<uint32_t>(a, token);
  else
    a.is_bf16 ? write_token<uint16_t, 2>(a, token) : write_token<uint32_t, 1>(a, token);
}

void write_share(void *data) {
  const WriteArgs &a = *(const WriteArgs *)data;
  const int64_t threads = a.num_tokens < 64 ? 1 : a.num_threads, me = threads == 1 ? 0 : omp_get_thread_num();
  for (int64_t t = a.num_tokens * me / threads; t < a.num_tokens * (me + 1) / threads; t++)
    write_any(a, t);
}
}  // namespace

extern "C" int specserve_write_kv(const WriteArgs *a) {
  if (a->num_tokens < 64 || a->num_threads == 1)
    write_share((void *)a);
  else
    GOMP_parallel(write_share, (void *)a, a->num_threads, 0);
  return 0;
}

extern "C" int specserve_max_threads() { return omp_get_max_threads(); }

extern "C" int specserve_supports_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
extern "C" int specserve_supports_avx512() {
  return specserve_supports_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
extern "C" int specserve_supports_avx512_bf16() {
  return specserve_supports_avx512() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
}
