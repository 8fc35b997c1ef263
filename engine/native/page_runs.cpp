// Writing keys and values into pages, many tokens at once: what pages.cpp does for any processor, with AVX-512.
//
// Sixteen bfloat16 tokens that fill a page from its beginning are turned as a square of 16 by 16 pairs; whatever else
// is among the tokens goes the ordinary way.
#include "attention.h"
#include "vectors.h"

namespace {
struct Run { int64_t first, count; };  // tokens

inline void load_rows(const uint16_t *from, int64_t stride, __m512i rows[kPage]) {
  for (int t = 0; t < kPage; t++) rows[t] = _mm512_loadu_si512(from + t * stride);
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

void write_page(const WriteArgs &a, int64_t token) {
  const int64_t page = a.slots[token] / kPage;
  __m512i rows[kPage];
  for (int h = 0; h < a.num_kv_heads; h++) {
    const auto *key = (const uint16_t *)a.key + token * a.key_token_stride + h * a.key_head_stride;
    const auto *value = (const uint16_t *)a.value + token * a.value_token_stride + h * a.value_head_stride;
    auto *to_key = (uint32_t *)a.keys + (page * a.num_kv_heads + h) * (a.head_size / 2) * kPage;
    auto *to_value = (uint32_t *)a.values + (page * a.num_kv_heads + h) * (kPage / 2) * a.value_head_size;
    for (int d = 0; d < a.head_size; d += 32) {
      load_rows(key + d, a.key_token_stride, rows);
      transpose(rows);
      for (int p = 0; p < 16; p++) _mm512_storeu_si512(to_key + (d / 2 + p) * kPage, rows[p]);
    }
    for (int t = 0; t < kPage; t += 2)
      for (int d = 0; d < a.value_head_size; d += 16) {
        const auto *even = value + t * a.value_token_stride + d;
        const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)even));
        const __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(even + a.value_token_stride)));
        _mm512_storeu_si512(to_value + t / 2 * a.value_head_size + d, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
      }
  }
}

inline bool fills_a_page(const WriteArgs &a, int64_t token, int64_t end) {
  if (token + kPage > end || a.slots[token] < 0 || a.slots[token] % kPage) return false;
  for (int t = 1; t < kPage; t++)
    if (a.slots[token + t] != a.slots[token] + t) return false;
  return true;
}

void write_run(const WriteArgs &a, Run run) {
  for (int64_t t = run.first, end = t + run.count; t < end;) {
    if (fills_a_page(a, t, end)) {
      write_page(a, t), t += kPage;
      continue;
    }
    specserve_write_token(&a, t++);
  }
}
}  // namespace

extern "C" int specserve_write_pages(const WriteArgs *a) {
  if (!a->is_bf16 || a->is_int8 || a->head_size % 32 || a->value_head_size % 16) return specserve_write_kv(a);
  constexpr int kRun = 64;  // tokens that one thread writes in a row
  for_each((a->num_tokens + kRun - 1) / kRun, kRun * 16, a->num_threads, [&](int i) {
    const int64_t left = a->num_tokens - (int64_t)i * kRun;
    write_run(*a, {(int64_t)i * kRun, left < kRun ? left : kRun});
  });
  return 0;
}
