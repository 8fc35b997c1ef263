// Sixteen tokens' pairs of bfloat16 as pages want them: see attention.h.
#pragma once
#include "attention.h"
#include "vectors.h"

namespace {
// The first `pairs` pairs of 16 rows, up to 16.
inline void load_rows(const uint16_t *from, int64_t stride, int pairs, __m512i rows[kPage]) {
  const __mmask16 inside = (__mmask16)((1u << pairs) - 1);
  for (int t = 0; t < kPage; t++) rows[t] = _mm512_maskz_loadu_epi32(inside, from + t * stride);
}

// rows[t][p], 32-bit pairs, becomes rows[p][t].
inline void transpose(__m512i rows[kPage]) {
  __m512i a[kPage];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    a[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; j++) {
      rows[i + 2 * j] = _mm512_unpacklo_epi64(a[i + j], a[i + j + 2]);
      rows[i + 2 * j + 1] = _mm512_unpackhi_epi64(a[i + j], a[i + j + 2]);
    }
  // rows[4 g + c] has, in its four lanes l, column 4 l + c of the tokens 4 g to 4 g + 3.
  for (int c = 0; c < 4; c++) {
    const __m512i x = _mm512_shuffle_i32x4(rows[c], rows[4 + c], 0x44), y = _mm512_shuffle_i32x4(rows[c], rows[4 + c], 0xee);
    const __m512i z = _mm512_shuffle_i32x4(rows[8 + c], rows[12 + c], 0x44);
    const __m512i w = _mm512_shuffle_i32x4(rows[8 + c], rows[12 + c], 0xee);
    a[c] = _mm512_shuffle_i32x4(x, z, 0x88), a[4 + c] = _mm512_shuffle_i32x4(x, z, 0xdd);
    a[8 + c] = _mm512_shuffle_i32x4(y, w, 0x88), a[12 + c] = _mm512_shuffle_i32x4(y, w, 0xdd);
  }
  for (int i = 0; i < 16; i++) rows[i] = a[i];
}

// Keys of 16 tokens and up to 16 pairs of dimensions → [pairs][16 tokens].
inline void turn_keys(const uint16_t *key, int64_t stride, int pairs, uint32_t *to) {
  __m512i rows[kPage];
  load_rows(key, stride, pairs, rows);
  transpose(rows);
  for (int p = 0; p < pairs; p++) _mm512_storeu_si512(to + p * kPage, rows[p]);
}

// Sixteen dimensions of one token's values, in the low or high halves of words whose other halves are left alone.
inline void put_values(const uint16_t *value, bool is_high, uint32_t *to) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)value));
  _mm512_mask_storeu_epi16(to, is_high ? 0xaaaaaaaa : 0x55555555, is_high ? _mm512_slli_epi32(low, 16) : low);
}

// Sixteen dimensions of two tokens' values, side by side.
inline void pair_values(const uint16_t *even, const uint16_t *odd, uint32_t *to) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)even));
  const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)odd));
  _mm512_storeu_si512(to, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}
}  // namespace
