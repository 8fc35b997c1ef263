// One tile of attention: how rows of a page meet their weights in bfloat16 and float32, scores, online softmax and
// weighted values. In an anonymous namespace, like all of attention.cpp; attention_int8.h has the same for 8 bits.
#pragma once
#include "attention.h"
#include "vectors.h"

namespace {
constexpr int kTile = 64;  // tokens per pass of the online softmax

// ---- how a row of a page meets its weights: query elements for keys, probabilities for values ----------------
struct Float32 {
  using Element = float;
  using Word = float;
  struct Row { Vec x; };
  static constexpr int kPair = 1, kWords = 1;  // tokens or dimensions per row, weight words per row
  static constexpr bool kIsInt8 = false;
  static int64_t page_words(int rows) { return (int64_t)rows * kPage; }
  static Row load_row(const uint32_t *p) { return {load((const float *)p)}; }
  static Row load_first(const uint32_t *p) { return load_row(p); }
  static Vec mac(Vec acc, Row row, const Word *w) { return fma(row.x, fill(w[0]), acc); }
  static void put(Word *to, Vec p) { store(to, p); }
  static float put_query(Word *to, const Element *q, int size) { return memcpy(to, q, size * 4), 1.f; }
  static Element element(float x) { return x; }
};
struct Bfloat16Widened {  // float32 arithmetic on bfloat16 pages
  using Element = uint16_t;
  using Word = float;
  struct Row { Vec x, y; };
  static constexpr int kPair = 2, kWords = 2;
  static constexpr bool kIsInt8 = false;
  static int64_t page_words(int rows) { return (int64_t)rows * kPage; }
  static Row load_row(const uint32_t *p) { return {low_halves(p), high_halves(p)}; }
  static Row load_first(const uint32_t *p) { return {low_halves(p), fill(0.f)}; }
  static Vec mac(Vec acc, Row row, const Word *w) {
    return fma(row.y, fill(w[1]), fma(row.x, fill(w[0]), acc));
  }
  static void put(Word *to, Vec p) { store(to, p); }
  static float put_query(Word *to, const Element *q, int size) {
    for (int d = 0; d < size; d++) to[d] = from_bf16(q[d]);
    if (size % 2) to[size] = 0;
    return 1.f;
  }
  static Element element(float x) { return to_bf16(x); }
};
#ifdef __AVX512BF16__
struct Bfloat16 {
  using Element = uint16_t;
  using Word = uint32_t;
  struct Row { __m512i x; };
  static constexpr int kPair = 2, kWords = 1;
  static constexpr bool kIsInt8 = false;
  static int64_t page_words(int rows) { return (int64_t)rows * kPage; }
  static Row load_row(const uint32_t *p) { return {_mm512_loadu_si512(p)}; }
  static Row load_first(const uint32_t *p) {
    return {_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(0xffff))};
  }
  static Vec mac(Vec acc, Row row, const Word *w) {
    return _mm512_dpbf16_ps(acc, (__m512bh)row.x, (__m512bh)_mm512_set1_epi32((int)w[0]));
  }
  static void put(Word *to, Vec p) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(p));
  }
  static float put_query(Word *to, const Element *q, int size) {
    if (size % 2) to[size / 2] = 0;
    return memcpy(to, q, size * 2), 1.f;
  }
  static Element element(float x) { return to_bf16(x); }
};
#endif

// ---- one tile ------------------------------------------------------------------------------------------------
struct Shape { int key_rows, query_words, width; float scale, softcap; };  // width: Dv padded to 16
struct Rows { const int *first, *last; const float *factor; float *acc, *max, *sum; };  // see keys [first, last)
struct Tile {
  const uint32_t *keys[kTile / kPage], *values[kTile / kPage];
  const uint32_t *next_keys[kTile / kPage], *next_values[kTile / kPage];  // pages to be fetched meanwhile, or these again
  int start, size;
};
// Into the second-level cache, for two tiles may be more than the first holds.
inline void fetch(const uint32_t *p) { __builtin_prefetch(p, 0, 2); }

// R query rows against one tile: scores, online softmax, weighted values.
template <class S, int R>
void attend_tile(const Shape &shape, const typename S::Word *query, const Tile &tile, Rows rows) {
  alignas(64) float scores[R][kTile];
  alignas(64) typename S::Word weights[R][kTile];
  Vec rescale[R];
  const int pages = (tile.size + kPage - 1) / kPage;
  for (int g = 0; g < pages; g++) {
    Vec acc[R];
    for (int r = 0; r < R; r++) acc[r] = fill(0.f);
    for (int d = 0; d < shape.key_rows; d++) {
      fetch(tile.next_keys[g] + d * kPage);
      const auto row = S::load_row(tile.keys[g] + d * kPage);
      for (int r = 0; r < R; r++) acc[r] = S::mac(acc[r], row, query + r * shape.query_words + d * S::kWords);
    }
    for (int r = 0; r < R; r++) store(scores[r] + g * kPage, acc[r]);
  }
  for (int r = 0; r < R; r++) {
    const int lo = rows.first[r] - tile.start, end = rows.last[r] - tile.start;
    const int hi = end < tile.size ? end : tile.size;
    Vec top = fill(-kInf);
    for (int g = 0; g < pages; g++) {
      Vec x = mul(load(scores[r] + g * kPage), fill(shape.scale));
      if (shape.softcap > 0) x = mul(tanh_of(div(x, fill(shape.softcap))), fill(shape.softcap));
      if (lo > g * kPage || hi < (g + 1) * kPage) x = keep_range(x, lo - g * kPage, hi - g * kPage);
      store(scores[r] + g * kPage, x);
      top = max(top, x);
    }
    const float seen = max_of(top), peak = seen > rows.max[r] ? seen : rows.max[r];
    const Vec base = fill(peak == -kInf ? 0.f : peak);  // -inf: nothing visible to this row so far
    const float factor = rows.max[r] == peak ? 1.f : rows.max[r] == -kInf ? 0.f : exp_of(rows.max[r] - peak);
    Vec sum = fill(0.f);
    for (int g = 0; g < pages; g++) {
      const Vec p = exp_of(sub(load(scores[r] + g * kPage), base));
      sum = add(sum, p);
      S::put(weights[r] + g * (kPage / S::kPair) * S::kWords, p);
    }
    rescale[r] = fill(factor);
    rows.sum[r] = rows.sum[r] * factor + sum_of(sum);
    rows.max[r] = peak;
  }
  // Never more value rows than tokens: a page may hold NaN behind the last one, and zero times NaN is NaN.
  const int full = tile.size / S::kPair, per_page = kPage / S::kPair;
  for (int j = 0; j < shape.width; j += 16) {
    Vec out[R];
    for (int r = 0; r < R; r++) out[r] = mul(rescale[r], load(rows.acc + r * shape.width + j));
    for (int t = 0; t < full; t++) {
      fetch(tile.next_values[t / per_page] + t % per_page * shape.width + j);
      const auto row = S::load_row(tile.values[t / per_page] + t % per_page * shape.width + j);
      for (int r = 0; r < R; r++) out[r] = S::mac(out[r], row, weights[r] + t * S::kWords);
    }
    if (full * S::kPair < tile.size) {
      const auto row = S::load_first(tile.values[full / per_page] + full % per_page * shape.width + j);
      for (int r = 0; r < R; r++) out[r] = S::mac(out[r], row, weights[r] + full * S::kWords);
    }
    for (int r = 0; r < R; r++) store(rows.acc + r * shape.width + j, out[r]);
  }
}
}  // namespace
