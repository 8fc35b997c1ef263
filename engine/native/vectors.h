// Sixteen floats as one AVX-512 register or two AVX2 registers, and the few functions attention needs on them.
// In an anonymous namespace, so that each instruction set has its own copy.
#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace {
constexpr float kInf = __builtin_inff(), kLog2e = 1.44269504f;

#ifdef __AVX512F__
constexpr int kBlock = 8, kSums = 16;  // query rows, and vectors of their sums, kept in registers
using Vec = __m512;
inline Vec fill(float x) { return _mm512_set1_ps(x); }
inline Vec load(const float *p) { return _mm512_loadu_ps(p); }
inline void store(float *p, Vec x) { _mm512_storeu_ps(p, x); }
inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec round(Vec a) { return _mm512_roundscale_ps(a, 0); }
inline Vec scale_by_power(Vec a, Vec n) { return _mm512_scalef_ps(a, n); }
inline Vec zero_where_less(Vec x, Vec limit, Vec y) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), y);
}
inline Vec keep_range(Vec x, int lo, int hi) {  // lanes outside of [lo, hi) become -inf
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __mmask16 inside = _mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(lo));
  inside &= _mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32(hi));
  return _mm512_mask_mov_ps(fill(-kInf), inside, x);
}
// p times two to the power of x's floor, which underflows to zero; p has been made of what is above x's floor.
inline Vec above_floor(Vec x) { return _mm512_reduce_ps(x, 9); }
inline Vec scale_by_floor(Vec p, Vec x) { return _mm512_scalef_ps(p, x); }
inline float sum_of(Vec x) { return _mm512_reduce_add_ps(x); }
inline float max_of(Vec x) { return _mm512_reduce_max_ps(x); }
// Lane r of the result is row r's lanes put together by `join`, in one order whatever the number of rows, up to eight.
template <int R, class Join> Vec across(const Vec (&rows)[R], const Join &join) {
  const auto halves = [&](int r) {
    const Vec x = rows[r < R ? r : R - 1], y = rows[r + 1 < R ? r + 1 : R - 1];
    return _mm512_castps_pd(join(_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y)));
  };
  const auto quarters = [&](int r) {
    const __m512d x = halves(r), y = halves(r + 2);
    return join(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
  };
  const Vec low = quarters(0), high = quarters(4);
  const Vec x = join(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
  return join(_mm512_shuffle_f32x4(x, x, 0x08), _mm512_shuffle_f32x4(x, x, 0x0d));
}
template <int R> Vec load_lanes(const float *p) { return _mm512_maskz_loadu_ps((1 << R) - 1, p); }
template <int R> void store_lanes(float *p, Vec x) { _mm512_mask_storeu_ps(p, (1 << R) - 1, x); }
inline Vec low_halves(const uint32_t *p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
}
inline Vec high_halves(const uint32_t *p) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32((int)0xffff0000)));
}
inline Vec widen(__m256i bf16) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16)); }
#else
constexpr int kBlock = 4, kSums = 4;
struct Vec { __m256 a, b; };
inline Vec fill(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Vec load(const float *p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float *p, Vec x) { _mm256_storeu_ps(p, x.a), _mm256_storeu_ps(p + 8, x.b); }
inline Vec add(Vec x, Vec y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Vec sub(Vec x, Vec y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Vec mul(Vec x, Vec y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Vec div(Vec x, Vec y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline Vec fma(Vec x, Vec y, Vec z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline Vec max(Vec x, Vec y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Vec round(Vec x) { return {_mm256_round_ps(x.a, 8), _mm256_round_ps(x.b, 8)}; }
inline __m256 power_of_two(__m256 n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
inline Vec scale_by_power(Vec x, Vec n) { return mul(x, {power_of_two(n.a), power_of_two(n.b)}); }
inline Vec zero_where_less(Vec x, Vec limit, Vec y) {
  return {_mm256_and_ps(y.a, _mm256_cmp_ps(x.a, limit.a, _CMP_NLT_UQ)),
          _mm256_and_ps(y.b, _mm256_cmp_ps(x.b, limit.b, _CMP_NLT_UQ))};
}
inline __m256 keep_range(__m256 x, __m256i lane, int lo, int hi) {
  __m256i inside = _mm256_and_si256(_mm256_cmpgt_epi32(lane, _mm256_set1_epi32(lo - 1)),
                                    _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), lane));
  return _mm256_blendv_ps(_mm256_set1_ps(-kInf), x, _mm256_castsi256_ps(inside));
}
inline Vec keep_range(Vec x, int lo, int hi) {
  return {keep_range(x.a, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), lo, hi),
          keep_range(x.b, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15), lo, hi)};
}
// p times two to the power of x's floor, zero below -126; p has been made of what is above x's floor.
inline __m256 above_floor(__m256 x) { return _mm256_sub_ps(x, _mm256_floor_ps(x)); }
inline Vec above_floor(Vec x) { return {above_floor(x.a), above_floor(x.b)}; }
inline Vec scale_by_floor(Vec p, Vec x) {
  const Vec n = {_mm256_floor_ps(x.a), _mm256_floor_ps(x.b)};
  return zero_where_less(x, fill(-126.f), scale_by_power(p, n));
}
template <int R> Vec load_lanes(const float *p) {
  alignas(32) float f[16] = {};
  memcpy(f, p, R * sizeof *p);
  return load(f);
}
template <int R> void store_lanes(float *p, Vec x) {
  alignas(32) float f[16];
  store(f, x), memcpy(p, f, R * sizeof *p);
}
// Lane r of the result is row r's lanes put together by `join`, in one order whatever the number of rows.
template <int R, class Join> Vec across(const Vec (&rows)[R], const Join &join) {
  alignas(32) float f[16] = {};
  for (int r = 0; r < R; r++) {
    alignas(32) float halves[32] = {};
    store(halves, rows[r]);
    for (int width = 8; width >= 1; width /= 2) store(halves, join(load(halves), load(halves + width)));
    f[r] = halves[0];
  }
  return load(f);
}
inline float sum_of(Vec x) {
  float f[16], s = 0;
  store(f, x);
  for (float v : f) s += v;
  return s;
}
inline float max_of(Vec x) {
  float f[16], m = -kInf;
  store(f, x);
  for (float v : f) m = v > m ? v : m;
  return m;
}
inline __m256i words(const uint32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
inline Vec low_halves(const uint32_t *p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(words(p), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(words(p + 8), 16))};
}
inline Vec high_halves(const uint32_t *p) {
  const __m256i high = _mm256_set1_epi32((int)0xffff0000);
  return {_mm256_castsi256_ps(_mm256_and_si256(words(p), high)),
          _mm256_castsi256_ps(_mm256_and_si256(words(p + 8), high))};
}
#endif

// Relative error 2e-7 up to 87, zero below -87: Taylor's series on half a power of two to each side.
inline Vec exp_of(Vec x) {
  Vec t = mul(x, fill(1.44269504f)), n = round(t), f = sub(t, n), p = fill(1.5403530e-4f);
  p = fma(p, f, fill(1.3333558e-3f)), p = fma(p, f, fill(9.6181291e-3f)), p = fma(p, f, fill(5.5504109e-2f));
  p = fma(p, f, fill(2.4022651e-1f)), p = fma(p, f, fill(6.9314718e-1f)), p = fma(p, f, fill(1.f));
  return zero_where_less(x, fill(-87.f), scale_by_power(p, n));
}
inline float exp_of(float x) {
  float f[16];
  store(f, exp_of(fill(x)));
  return f[0];
}
// Two to the power of x, which is not above 127; exact for whole numbers, else a relative error of 2e-7. Zero for -inf.
// The coefficients are a fit of our own to the smallest relative error in [0, 1].
inline Vec exp2_of(Vec x) {
  const Vec f = above_floor(x);
  Vec p = fma(fill(1.86713017e-3f), f, fill(9.01702978e-3f));
  p = fma(p, f, fill(5.57999127e-2f)), p = fma(p, f, fill(2.40164444e-1f));
  p = fma(p, f, fill(6.93151295e-1f)), p = fma(p, f, fill(1.f));
  return scale_by_floor(p, x);
}
inline float exp2_of(float x) {
  float f[16];
  store(f, exp2_of(fill(x)));
  return f[0];
}
inline Vec tanh_of(Vec x) {  // 1 - 2 / (e^2x + 1), absolute error 1e-7
  Vec y = max(fill(-20.f), x);
  y = sub(fill(0.f), max(fill(-20.f), sub(fill(0.f), y)));
  return sub(fill(1.f), div(fill(2.f), add(exp_of(add(y, y)), fill(1.f))));
}
// x times the normal distribution's share below x, absolute error 1e-6 (1.5e-5 below -4.5, where it is zero): the share
// less a half is x times a polynomial of x squared, written in t = 2 (x / 4.5)^2 - 1 so that its terms do not cancel.
// The coefficients are a fit of our own, by weighted least squares at Chebyshev nodes.
inline Vec gelu_of(Vec x) {
  const Vec inside = max(fill(-4.5f), sub(fill(0.f), max(fill(-4.5f), sub(fill(0.f), x))));
  const Vec t = fma(mul(inside, inside), fill(0.09876543f), fill(-1.f));
  Vec p = fill(-2.69048294e-04f);
  p = fma(p, t, fill(9.04523418e-04f)), p = fma(p, t, fill(-1.55326969e-03f)), p = fma(p, t, fill(2.87938653e-03f));
  p = fma(p, t, fill(-6.08152151e-03f)), p = fma(p, t, fill(1.13188298e-02f)), p = fma(p, t, fill(-1.86405182e-02f));
  p = fma(p, t, fill(2.83195227e-02f)), p = fma(p, t, fill(-4.01799455e-02f)), p = fma(p, t, fill(5.46975955e-02f));
  p = fma(p, t, fill(-7.71901980e-02f)), p = fma(p, t, fill(1.56904981e-01f));
  return zero_where_less(x, fill(-4.5f), mul(x, fma(inside, p, fill(0.5f))));
}
inline float from_bf16(uint16_t x) {
  const uint32_t u = (uint32_t)x << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
inline uint16_t to_bf16(float f) {  // round to nearest even
  uint32_t u;
  memcpy(&u, &f, 4);
  if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)((u >> 16) | 0x40);
  return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
}  // namespace
