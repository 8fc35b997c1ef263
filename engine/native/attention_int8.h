// One tile of attention over 8-bit pages, in whole numbers: see attention.h for the pages.
//
// Keys and values are bytes with one scale for each token and head. Queries and probabilities are turned into 16-bit
// numbers on the way, with one scale for each row (and for probabilities each tile), so products are exact in 32 bits
// and what is lost is lost in the pages alone. VPDPWSSD multiplies as many of them as VDPBF16PS does of bfloat16, so
// half the bytes cost no more arithmetic. A row's scales come from what it sees, never from what lies beside it.
#pragma once
#include "attention_tile.h"
#include "hadamard.h"

namespace {
// ---- 32-bit sums of 16-bit products, sixteen at a time ---------------------------------------------------------
#ifdef __AVX512F__
using Ints = __m512i;
inline Ints no_ints() { return _mm512_setzero_si512(); }
inline Ints load_codes(const uint32_t *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p)); }
inline Ints dot(Ints acc, Ints row, const uint32_t &word) {
#ifdef __AVX512VNNI__  // written out, because with the compiler's function the sums leave their registers
  asm("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(row), "m"(word));
  return acc;
#else
  return _mm512_add_epi32(acc, _mm512_madd_epi16(row, _mm512_set1_epi32((int)word)));
#endif
}
inline Vec to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
inline void store_int16(uint32_t *to, Vec x) {  // rounds to the nearest even; eight words
  _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x)));
}
inline Vec load_scales(const uint32_t *p) { return widen(_mm256_loadu_si256((const __m256i *)p)); }
#else
struct Ints { __m256i a, b; };
inline Ints no_ints() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline Ints load_codes(const uint32_t *p) {
  return {_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)),
          _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p + 4)))};
}
inline Ints dot(Ints acc, Ints row, const uint32_t &word) {
  const __m256i w = _mm256_set1_epi32((int)word);
  return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(row.a, w)), _mm256_add_epi32(acc.b, _mm256_madd_epi16(row.b, w))};
}
inline Vec to_floats(Ints x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline void store_int16(uint32_t *to, Vec x) {
  const __m256i both = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
  _mm256_storeu_si256((__m256i *)to, _mm256_permute4x64_epi64(both, 0xd8));
}
inline __m256 widen_half(const uint32_t *p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
inline Vec load_scales(const uint32_t *p) { return {widen_half(p), widen_half(p + 4)}; }
#endif

// ---- the form: how queries come in ----------------------------------------------------------
inline float as_float(float x) { return x; }
inline float as_float(uint16_t x) { return from_bf16(x); }

constexpr int kInt8Row = 8, kInt8Scales = 8;  // words of a row of a page, and of its 16 scales

template <class T> struct Int8 {
  using Element = T;
  using Word = uint32_t;
  static constexpr int kPair = 2, kWords = 1;
  static constexpr bool kIsInt8 = true;
  static int64_t page_words(int rows) { return (int64_t)rows * kInt8Row + kInt8Scales; }
  // The largest number that queries are scaled to: sums of D products with bytes have to fit 31 bits.
  static float query_limit(int size) {
    const int most = (int)(2147483647LL / (127 * (int64_t)(size + 1)));
    return (float)(most < 32767 ? most : 32767);
  }
  // Returns what the 16-bit numbers have to be multiplied by; NaN where there is one, or an infinity, among the query.
  static float put_query(Word *to, const Element *q, int size) {
    alignas(64) float x[kMostTurned + 16];
    for (int d = 0; d < size; d++) x[d] = as_float(q[d]);
    for (int d = size; d < size + 16; d++) x[d] = 0;
    turn(x, size);
    float largest = 0;
    bool is_finite = true;
    for (int d = 0; d < size; d++) {
      const float a = x[d] < 0 ? -x[d] : x[d];
      is_finite = is_finite && a < kInf;
      largest = a > largest ? a : largest;
    }
    const float limit = query_limit(size), step = largest > 1e-30f && is_finite ? limit / largest : 0.f;
    for (int d = 0; d < size; d += 16) store_int16(to + d / 2, step > 0 ? mul(load(x + d), fill(step)) : fill(0.f));
    return is_finite ? largest / limit / (float)turned_length(size) : __builtin_nanf("");
  }
  static void put_result(Element *to, Vec x) { round_all(x, to); }
};

// R query rows against one tile. What attend_tile does, but probabilities get their values' scales before they are
// rounded, and every row weighs a tile against the largest score it sees there before it compares tiles.
template <int R> void attend_int8_tile(const Shape &shape, const uint32_t *query, const Tile &tile, Rows rows) {
  alignas(64) float scores[R][kTile], scales[kTile], seen[16], before[16], peaks[16], keep[16], take[16];
  alignas(64) uint32_t weights[R][kTile / 2];
  Vec rescale[R], gain[R];
  const int pages = (tile.size + kPage - 1) / kPage, key_words = shape.key_rows * kInt8Row;
  const int value_words = shape.width * kPage / 2 / 16 * kInt8Row;
  for (int g = 0; g < pages; g++) {
    Ints acc[R];
    for (int r = 0; r < R; r++) acc[r] = no_ints();
    fetch(tile.next_keys[g] + key_words), fetch(tile.next_values[g] + value_words);
    for (int d = 0; d < shape.key_rows; d++) {
      if (d % 2 == 0) fetch(tile.next_keys[g] + d * kInt8Row);
      const Ints row = load_codes(tile.keys[g] + d * kInt8Row);
      for (int r = 0; r < R; r++) acc[r] = dot(acc[r], row, query[r * shape.query_words + d]);
    }
    const Vec of_keys = load_scales(tile.keys[g] + key_words);
    for (int r = 0; r < R; r++) store(scores[r] + g * kPage, mul(to_floats(acc[r]), of_keys));
    store(scales + g * kPage, load_scales(tile.values[g] + value_words));
  }
  store(seen, fill(-kInf)), store(before, fill(-kInf));
  for (int r = 0; r < R; r++) {
    const int lo = rows.first[r] - tile.start, end = rows.last[r] - tile.start;
    const int hi = end < tile.size ? end : tile.size;
    Vec top = fill(-kInf);
    for (int g = 0; g < pages; g++) {
      Vec x = mul(load(scores[r] + g * kPage), fill(shape.scale * rows.factor[r]));
      if (shape.softcap > 0) x = mul(tanh_of(x), fill(shape.softcap));
      if (lo > g * kPage || hi < (g + 1) * kPage) x = keep_range(x, lo - g * kPage, hi - g * kPage);
      store(scores[r] + g * kPage, x);
      top = max(top, x);
    }
    seen[r] = max_of(top), before[r] = rows.max[r];
  }
  // -inf: nothing is visible to the row, in this tile or so far.
  const Vec largest = max(load(seen), load(before)), finite = max(fill(-3e38f), largest);
  store(peaks, largest), store(keep, exp2_of(sub(load(before), finite))), store(take, exp2_of(sub(load(seen), finite)));
  for (int r = 0; r < R; r++) {
    const Vec base = fill(seen[r] == -kInf ? 0.f : seen[r]);
    Vec sum = fill(0.f), heaviest = fill(0.f);
    for (int g = 0; g < pages; g++) {
      const Vec x = sub(load(scores[r] + g * kPage), base), p = exp2_of(x);
      // Slots behind the last token may have any scale, but no probability. A NaN that is seen shows in the sum.
      const Vec w = zero_where_less(x, fill(-126.f), mul(p, load(scales + g * kPage)));
      sum = fma(w, fill(0.f), add(sum, p));
      heaviest = max(heaviest, w);
      store(scores[r] + g * kPage, w);
    }
    const float most = max_of(heaviest), step = most > 0 ? 32767.f / most : 0.f;
    for (int g = 0; g < pages; g++) store_int16(weights[r] + g * kPage / 2, mul(load(scores[r] + g * kPage), fill(step)));
    rescale[r] = fill(keep[r]);
    gain[r] = fill(most > 0 ? take[r] * (most / 32767.f) : 0.f);
    rows.sum[r] = rows.sum[r] * keep[r] + sum_of(sum) * take[r];
    rows.max[r] = peaks[r];
  }
  const int pairs = (tile.size + 1) / 2, per_page = kPage / 2;
  for (int j = 0; j < shape.width; j += 16) {
    Ints acc[R];
    for (int r = 0; r < R; r++) acc[r] = no_ints();
    for (int t = 0; t < pairs; t++) {
      if (j % 32 == 0) fetch(tile.next_values[t / per_page] + (t % per_page * shape.width + j) / 2);
      const Ints row = load_codes(tile.values[t / per_page] + (t % per_page * shape.width + j) / 2);
      for (int r = 0; r < R; r++) acc[r] = dot(acc[r], row, weights[r][t]);
    }
    for (int r = 0; r < R; r++) {
      float *out = rows.acc + r * shape.width + j;
      store(out, fma(to_floats(acc[r]), gain[r], mul(rescale[r], load(out))));
    }
  }
}
}  // namespace
