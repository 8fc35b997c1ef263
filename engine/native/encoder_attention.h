// Attention of a few query rows over all keys of their text, for encoders: nothing is masked but the end of the text.
//
// Keys and values lie in pages of 16 tokens as attention.h draws them, those of one text and head one behind the other.
// Keys are taken kPart at a time from the text's beginning on, and their scores are kept whole: so a row's sums have
// the same order whatever rows are computed beside it.
// Source: online softmax, Milakov and Gimelshein 2018.
#pragma once
#include "vectors.h"

namespace {
constexpr int kTokens = 16;     // of a page
constexpr int kPart = 256;      // keys whose scores are kept at a time
constexpr int kQueryRows = 6;   // together with 4 vectors of keys or values: 24 sums in registers
constexpr int kWide = 4;
constexpr int kLargestHead = 256;

struct HeadKeys { const uint32_t *keys, *values; int count, head_size; };

// R rows of queries against N pages of keys, in pairs of dimensions.
template <int R, int N>
inline void score_pages(const uint32_t *query, int64_t stride, const uint32_t *keys, int words, float (*scores)[kPart]) {
  Vec sums[R][N];
  for (int r = 0; r < R; r++)
    for (int g = 0; g < N; g++) sums[r][g] = fill(0.f);
  for (int d = 0; d < words; d++) {
    __m512bh key[N];
    for (int g = 0; g < N; g++) key[g] = (__m512bh)_mm512_loadu_si512(keys + (g * words + d) * kTokens);
    for (int r = 0; r < R; r++) {
      const __m512bh pair = (__m512bh)_mm512_set1_epi32((int)query[r * stride + d]);
      for (int g = 0; g < N; g++) sums[r][g] = _mm512_dpbf16_ps(sums[r][g], key[g], pair);
    }
  }
  for (int r = 0; r < R; r++)
    for (int g = 0; g < N; g++) store(scores[r] + g * kTokens, sums[r][g]);
}

// acc[R][N * 16] = acc * factor + weights times N vectors of values, in pairs of tokens.
template <int R, int N>
inline void weigh_values(const uint32_t (*weights)[kPart / 2], const uint32_t *values, int pairs, int head_size,
                         const float *factors, float *acc) {
  Vec sums[R][N];
  for (int r = 0; r < R; r++)
    for (int v = 0; v < N; v++) sums[r][v] = mul(fill(factors[r]), load(acc + r * head_size + v * 16));
  for (int p = 0; p < pairs; p++) {
    __m512bh value[N];
    for (int v = 0; v < N; v++) value[v] = (__m512bh)_mm512_loadu_si512(values + p * head_size + v * 16);
    for (int r = 0; r < R; r++) {
      const __m512bh pair = (__m512bh)_mm512_set1_epi32((int)weights[r][p]);
      for (int v = 0; v < N; v++) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], value[v], pair);
    }
  }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < N; v++) store(acc + r * head_size + v * 16, sums[r][v]);
}

template <int R, int N> void score_some(int n, const uint32_t *q, int64_t stride, const uint32_t *k, int words, float (*s)[kPart]) {
  if constexpr (N > 0) n == N ? score_pages<R, N>(q, stride, k, words, s) : score_some<R, N - 1>(n, q, stride, k, words, s);
}
template <int R, int N>
void weigh_some(int n, const uint32_t (*w)[kPart / 2], const uint32_t *v, int pairs, int size, const float *f, float *acc) {
  if constexpr (N > 0)
    n == N ? weigh_values<R, N>(w, v, pairs, size, f, acc) : weigh_some<R, N - 1>(n, w, v, pairs, size, f, acc);
}

// query, out: bfloat16 rows of one head, `stride` and `out_stride` elements apart.
template <int R>
void attend_rows(const uint16_t *query, int64_t stride, const HeadKeys &head, float scale, uint16_t *out, int64_t out_stride) {
  alignas(64) float scores[R][kPart], acc[R * kLargestHead];
  alignas(64) uint32_t weights[R][kPart / 2];
  float peaks[R], totals[R], factors[R];
  const int words = head.head_size / 2, size = head.head_size;
  memset(acc, 0, sizeof(float) * R * size);
  for (int r = 0; r < R; r++) peaks[r] = -kInf, totals[r] = 0.f;
  for (int from = 0; from < head.count; from += kPart) {
    const int left = head.count - from, count = left < kPart ? left : kPart, pages = (count + kTokens - 1) / kTokens;
    const uint32_t *keys = head.keys + (int64_t)from * words, *values = head.values + (int64_t)from * words;
    for (int g = 0; g < pages; g += kWide) {
      float (*some)[kPart] = (float (*)[kPart])(scores[0] + g * kTokens);
      score_some<R, kWide>(pages - g < kWide ? pages - g : kWide, (const uint32_t *)query, stride / 2,
                           keys + g * words * kTokens, words, some);
    }
    for (int r = 0; r < R; r++) {
      float *row = scores[r];
      if (count % kTokens) {
        float *end = row + (pages - 1) * kTokens;
        store(end, keep_range(load(end), 0, count % kTokens));
      }
      Vec top = load(row);
      for (int g = 1; g < pages; g++) top = max(top, load(row + g * kTokens));
      const float seen = max_of(top) * scale, peak = seen > peaks[r] ? seen : peaks[r];
      factors[r] = peaks[r] == -kInf ? 0.f : peaks[r] == peak ? 1.f : exp_of(peaks[r] - peak);
      Vec sum = fill(0.f);
      for (int g = 0; g < pages; g++) {
        const Vec p = exp_of(fma(load(row + g * kTokens), fill(scale), fill(-peak)));
        sum = add(sum, p);
        _mm256_storeu_si256((__m256i *)(weights[r] + g * kTokens / 2), (__m256i)_mm512_cvtneps_pbh(p));
      }
      totals[r] = totals[r] * factors[r] + sum_of(sum);
      peaks[r] = peak;
    }
    for (int j = 0; j < size; j += 16 * kWide) {
      const int vectors = (size - j) / 16;
      weigh_some<R, kWide>(vectors < kWide ? vectors : kWide, weights, values + j, pages * kTokens / 2, size, factors, acc + j);
    }
  }
  for (int r = 0; r < R; r++) {
    const Vec norm = fill(1.f / totals[r]);
    for (int j = 0; j < size; j += 16) {
      const Vec y = mul(load(acc + r * size + j), norm);
      _mm256_storeu_si256((__m256i *)(out + r * out_stride + j), (__m256i)_mm512_cvtneps_pbh(y));
    }
  }
}

template <int R>
void attend_some(int rows, const uint16_t *q, int64_t stride, const HeadKeys &head, float scale, uint16_t *out, int64_t out_stride) {
  if constexpr (R > 0)
    rows == R ? attend_rows<R>(q, stride, head, scale, out, out_stride)
              : attend_some<R - 1>(rows, q, stride, head, scale, out, out_stride);
}

inline void attend_text(int rows, const uint16_t *query, int64_t stride, const HeadKeys &head, float scale, uint16_t *out,
                        int64_t out_stride) {
  for (int r = 0; r < rows; r += kQueryRows)
    attend_some<kQueryRows>(rows - r < kQueryRows ? rows - r : kQueryRows, query + r * stride, stride, head, scale,
                            out + r * out_stride, out_stride);
}
}  // namespace
