// What products with int8 and int4 weights have in common: see linear.h for the layout, quantized_linear.cpp and
// screening.cpp for their use.
//
// Each row of activations is rounded to int8 in the groups of the weights, with a scale per group, once per product.
// VPDPBUSD multiplies unsigned with signed bytes: weights are the unsigned ones, kept as w + kZero, and what that adds to
// a group's sum, kZero * sum(x), is where the sum starts, with the other sign. A group's whole-number sum is exact; times
// both scales it is added to the row's float32 sums.
#pragma once
#include "linear_tiles.h"

namespace {
constexpr int kFarAhead = 4096;   // bytes, for int8: 3 to 10 % faster than a line ahead; int4 is slower so
constexpr float kLeast = 1e-30f;  // groups of activations below it are zero

inline uint16_t largest_of(__m512i x) {  // of 32 unsigned words
  const __m256i y = _mm256_max_epu16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
  const __m128i z = _mm_max_epu16(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
  const __m128i least = _mm_minpos_epu16(_mm_xor_si128(z, _mm_set1_epi16(-1)));
  return (uint16_t)~_mm_cvtsi128_si32(least);
}

// sums += the products of fours of unsigned and signed bytes. Written so because compilers move sums about, and out of
// registers, around the intrinsic: that halves the speed of many rows.
inline void add_products(__m512i &sums, __m512i weights, __m512i fours) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(weights), "v"(fours));
}

struct Int8 {
  static constexpr int kGroup = 64, kZero = 128, kGroupBytes = kFeatures * (2 + kGroup);
  // Adds the products of a group: `fours` are those of M rows side by side.
  template <int M> static void add_group(const char *weights, const int32_t *fours, __m512i sums[M][2]) {
    for (int i = 0; i < kGroup / 4; i++, weights += 4 * kFeatures) {
      __builtin_prefetch(weights + kFarAhead);
      __builtin_prefetch(weights + kFarAhead + 64);
      const __m512i left = _mm512_loadu_si512(weights), right = _mm512_loadu_si512(weights + 64);
      for (int r = 0; r < M; r++) {
        const __m512i four = _mm512_set1_epi32(fours[i * M + r]);
        add_products(sums[r][0], left, four);
        add_products(sums[r][1], right, four);
      }
    }
  }
};

struct Int4 {
  static constexpr int kGroup = 32, kZero = 8, kGroupBytes = kFeatures * (2 + kGroup / 2);
  template <int M> static void add_group(const char *weights, const int32_t *fours, __m512i sums[M][2]) {
    const __m512i low = _mm512_set1_epi8(15);
    for (int i = 0; i < kGroup / 4; i += 2, weights += 4 * kFeatures) {
      __builtin_prefetch(weights + kAhead);
      __builtin_prefetch(weights + kAhead + 64);
      const __m512i left = _mm512_loadu_si512(weights), right = _mm512_loadu_si512(weights + 64);
      const __m512i lefts[2] = {_mm512_and_si512(left, low), _mm512_and_si512(_mm512_srli_epi16(left, 4), low)};
      const __m512i rights[2] = {_mm512_and_si512(right, low), _mm512_and_si512(_mm512_srli_epi16(right, 4), low)};
      for (int half = 0; half < 2; half++)
        for (int r = 0; r < M; r++) {
          const __m512i four = _mm512_set1_epi32(fours[(i + half) * M + r]);
          add_products(sums[r][0], lefts[half], four);
          add_products(sums[r][1], rights[half], four);
        }
    }
  }
};

// Per block of `count` rows, in scratch: [K/4][count] fours of bytes, [K/G][count] scales, [K/G][count] starts.
struct Rows {
  int32_t *fours;
  float *scales;
  int32_t *starts;
};

template <class Whole> struct QuantizedWeights : Stored {
  static constexpr int kRows = 12, kGroup = Whole::kGroup;

  static int num_groups(const LinearArgs &a) { return (a.weight.k + kGroup - 1) / kGroup; }
  static Rows rows_of(const LinearArgs &a, int first, int count) {
    const int64_t groups = num_groups(a);
    auto *fours = (int32_t *)((char *)a.scratch + first * groups * (kGroup + 8));
    auto *scales = (float *)(fours + groups * kGroup / 4 * count);
    return {fours, scales, (int32_t *)(scales + groups * count)};
  }

  void prepare(const LinearArgs &a, Pass pass) const {
    const Rows rows = rows_of(a, pass.first, pass.count);
    for (int r = 0; r < pass.count; r++)
      for (int g = 0; g < num_groups(a); g++) {
        const uint16_t *x = a.x + (pass.first + r) * a.x_stride + g * kGroup;
        quantize(x, a.weight.k - g * kGroup, rows, g, r, pass.count);
      }
  }

  // One group of one row, of which `left` values are there. What is not finite gives a scale that is not finite.
  static void quantize(const uint16_t *x, int left, const Rows &rows, int group, int row, int count) {
    __m512i values[kGroup / 32], largest = _mm512_setzero_si512();
    for (int i = 0; i < kGroup / 32; i++) {
      const int here = left - 32 * i;
      const __mmask32 inside = here >= 32 ? 0xffffffffu : here <= 0 ? 0 : (1u << here) - 1;
      values[i] = _mm512_maskz_loadu_epi16(inside, x + 32 * i);
      largest = _mm512_max_epu16(largest, _mm512_and_si512(values[i], _mm512_set1_epi16(0x7fff)));
    }
    const float most = from_bf16(largest_of(largest));
    const Vec factor = fill(most < kLeast ? 0.f : 127.f / most);
    __m512i sum = _mm512_setzero_si512();
    for (int i = 0; i < kGroup / 16; i++) {
      const __m256i narrow = _mm512_extracti64x4_epi64(values[i / 2], 1);
      const Vec value = widen(i % 2 ? narrow : _mm512_castsi512_si256(values[i / 2]));
      const __m512i whole = _mm512_cvtps_epi32(mul(value, factor));
      sum = _mm512_add_epi32(sum, whole);
      alignas(16) int32_t fours[4];
      _mm_store_si128((__m128i *)fours, _mm512_cvtsepi32_epi8(whole));
      for (int j = 0; j < 4; j++) rows.fours[(group * kGroup / 4 + 4 * i + j) * count + row] = fours[j];
    }
    rows.scales[group * count + row] = most < kLeast ? 0.f : most / 127.f;
    rows.starts[group * count + row] = -Whole::kZero * _mm512_reduce_add_epi32(sum);
  }

  template <int M> void multiply(const LinearArgs &a, int first, int block, Vec sums[M][2]) const {
    const int groups = num_groups(a);
    const Rows rows = rows_of(a, first, M);
    const char *weights = (const char *)a.weight.packed + (int64_t)block * groups * Whole::kGroupBytes;
    for (int r = 0; r < M; r++) sums[r][0] = sums[r][1] = fill(0.f);
    for (int g = 0; g < groups; g++, weights += Whole::kGroupBytes) {
      __m512i whole[M][2];
      for (int r = 0; r < M; r++) whole[r][0] = whole[r][1] = _mm512_set1_epi32(rows.starts[g * M + r]);
      Whole::template add_group<M>(weights + 2 * kFeatures, rows.fours + g * kGroup / 4 * M, whole);
      const auto *scales = (const __m256i *)weights;
      const Vec left = widen(_mm256_loadu_si256(scales)), right = widen(_mm256_loadu_si256(scales + 1));
      for (int r = 0; r < M; r++) {
        const Vec scale = fill(rows.scales[g * M + r]);
        sums[r][0] = fma(_mm512_cvtepi32_ps(whole[r][0]), mul(left, scale), sums[r][0]);
        sums[r][1] = fma(_mm512_cvtepi32_ps(whole[r][1]), mul(right, scale), sums[r][1]);
      }
    }
  }
};
}  // namespace
