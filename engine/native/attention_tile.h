// One tile of attention: how rows of a page meet their weights in bfloat16 and float32, scores, online softmax and
// weighted values. In an anonymous namespace, like all of attention.cpp; attention_int8.h has the same for 8 bits.
#pragma once
#include "attention.h"
#include "vectors.h"

namespace {
constexpr int kTile = 128;  // tokens per pass of the online softmax

// Sixteen results in the type of the queries.
inline void round_all(Vec x, float *to) { store(to, x); }
inline void round_all(Vec x, uint16_t *to) {
  alignas(64) float f[16];
  store(f, x);
  for (int i = 0; i < 16; i++) to[i] = to_bf16(f[i]);
}

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
  static void put_result(Element *to, Vec x) { store(to, x); }
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
  static void put_result(Element *to, Vec x) { round_all(x, to); }
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
  static void put_result(Element *to, Vec x) { _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(x)); }
};
#endif

// ---- one tile ------------------------------------------------------------------------------------------------
// `scale` brings scores to exponents of two; with a soft cap it brings them to what the tangent takes, and `softcap` is
// the cap as an exponent of two. width: Dv padded to 16.
struct Shape { int key_rows, query_words, width; float scale, softcap; };
struct Rows { const int *first, *last; const float *factor; float *acc, *max, *sum; };  // see keys [first, last)
struct Tile {
  const uint32_t *keys[kTile / kPage], *values[kTile / kPage];
  const uint32_t *next_keys[kTile / kPage], *next_values[kTile / kPage];  // pages to be fetched meanwhile, or these again
  int start, size;
  void fetch_nothing_new() { memcpy(next_keys, keys, sizeof keys), memcpy(next_values, values, sizeof values); }
};
// Into the second-level cache, for two tiles may be more than the first holds.
inline void fetch(const uint32_t *p) { __builtin_prefetch(p, 0, 2); }

// Calls work(Count<n>(), first) for groups of up to N of `count`, which are as large as one another.
template <int N> struct Count { static constexpr int value = N; };
template <int N, class Work> inline void with_count(int count, int first, const Work &work) {
  if constexpr (N > 0) count == N ? work(Count<N>(), first) : with_count<N - 1>(count, first, work);
}
template <int N, class Work> inline void in_groups(int count, const Work &work) {
  int first = 0;
  for (int groups = (count + N - 1) / N; groups > 0; groups--) {
    const int size = (count - first + groups - 1) / groups;
    with_count<N>(size, first, work);
    first += size;
  }
}
// Vectors of keys or values that R rows take at a time, so that their sums stay in registers.
template <int R> constexpr int kWide = kSums / R < 4 ? kSums / R : 4;

// sums[r][n] += `count` rows of strip n times the weights of row r. Rows of a strip are `stride` words apart, weights of
// a row `words`; what lies in the strips `ahead` is fetched meanwhile.
template <class S, int R, int N>
inline void accumulate(Vec (&sums)[R][N], const typename S::Word *weights, int words, const uint32_t *const (&strips)[N],
                       const uint32_t *const (&ahead)[N], int stride, int count) {
  for (int t = 0; t < count; t++) {
    typename S::Row row[N];
    for (int n = 0; n < N; n++) fetch(ahead[n] + t * stride), row[n] = S::load_row(strips[n] + t * stride);
    for (int r = 0; r < R; r++)
      for (int n = 0; n < N; n++) sums[r][n] = S::mac(sums[r][n], row[n], weights + r * words + t * S::kWords);
  }
}

template <class S, int R, int N>
inline void score_pages(const Shape &shape, const typename S::Word *query, const Tile &tile, int first, float (*scores)[kTile]) {
  const uint32_t *keys[N], *ahead[N];
  Vec sums[R][N];
  for (int n = 0; n < N; n++) keys[n] = tile.keys[first + n], ahead[n] = tile.next_keys[first + n];
  for (auto &row : sums)
    for (Vec &sum : row) sum = fill(0.f);
  accumulate<S, R, N>(sums, query, shape.query_words, keys, ahead, kPage, shape.key_rows);
  for (int r = 0; r < R; r++)
    for (int n = 0; n < N; n++) store(scores[r] + (first + n) * kPage, mul(sums[r][n], fill(shape.scale)));
}

// Caps the scores of one row and takes away what it does not see of the tile; returns the largest of each lane.
inline Vec limit_scores(const Shape &shape, const Tile &tile, int first, int last, float *scores) {
  const int pages = (tile.size + kPage - 1) / kPage, lo = first - tile.start, end = last - tile.start;
  const int hi = end < tile.size ? end : tile.size;
  if (shape.softcap > 0)
    for (int g = 0; g < pages; g++) store(scores + g * kPage, mul(tanh_of(load(scores + g * kPage)), fill(shape.softcap)));
  for (int g = 0; g < pages && (lo > 0 || hi < pages * kPage); g++)
    if (lo > g * kPage || hi < (g + 1) * kPage)
      store(scores + g * kPage, keep_range(load(scores + g * kPage), lo - g * kPage, hi - g * kPage));
  Vec top = load(scores);
  for (int g = 1; g < pages; g++) top = max(top, load(scores + g * kPage));
  return top;
}

// acc = acc * factor + weights times N vectors of values.
template <class S, int R, int N, int kWords>
inline void weigh_values(const Shape &shape, const typename S::Word (*weights)[kWords], const Tile &tile, int column,
                         const float *factors, float *acc) {
  constexpr int kRows = kPage / S::kPair;  // of a page
  const int width = shape.width, full = tile.size / S::kPair;
  Vec sums[R][N];
  for (int r = 0; r < R; r++)
    for (int n = 0; n < N; n++) sums[r][n] = mul(fill(factors[r]), load(acc + r * width + column + n * 16));
  const auto add_page = [&](int page, int count) {
    const uint32_t *values[N], *ahead[N];
    for (int n = 0; n < N; n++) {
      values[n] = tile.values[page] + column + n * 16, ahead[n] = tile.next_values[page] + column + n * 16;
    }
    accumulate<S, R, N>(sums, weights[0] + page * kRows * S::kWords, kWords, values, ahead, width, count);
  };
  int page = 0;
  for (; page < full / kRows; page++) add_page(page, kRows);
  // Never more value rows than tokens: a page may hold NaN behind the last one, and zero times NaN is NaN.
  if (full % kRows) add_page(page, full % kRows);
  if (full * S::kPair < tile.size)
    for (int n = 0; n < N; n++) {
      const auto row = S::load_first(tile.values[page] + full % kRows * width + column + n * 16);
      for (int r = 0; r < R; r++) sums[r][n] = S::mac(sums[r][n], row, weights[r] + full * S::kWords);
    }
  for (int r = 0; r < R; r++)
    for (int n = 0; n < N; n++) store(acc + r * width + column + n * 16, sums[r][n]);
}

// R query rows against one tile: scores, online softmax, weighted values.
template <class S, int R>
void attend_tile(const Shape &shape, const typename S::Word *query, const Tile &tile, Rows rows) {
  constexpr int kWords = kTile / S::kPair * S::kWords;
  alignas(64) float scores[R][kTile], bases[16], factors[16];
  alignas(64) typename S::Word weights[R][kWords];
  const int pages = (tile.size + kPage - 1) / kPage;
  in_groups<kWide<R>>(pages, [&](auto n, int first) { score_pages<S, R, n.value>(shape, query, tile, first, scores); });
  Vec tops[R], sums[R];
  for (int r = 0; r < R; r++) tops[r] = limit_scores(shape, tile, rows.first[r], rows.last[r], scores[r]);
  const Vec before = load_lanes<R>(rows.max), peaks = max(across(tops, [](Vec x, Vec y) { return max(x, y); }), before);
  const Vec finite = max(fill(-3e38f), peaks);  // -inf: nothing visible to this row so far
  store(bases, finite), store(factors, exp2_of(sub(before, finite)));
  store_lanes<R>(rows.max, peaks);
  for (int r = 0; r < R; r++) {
    Vec sum = fill(0.f);
    for (int g = 0; g < pages; g++) {
      const Vec p = exp2_of(sub(load(scores[r] + g * kPage), fill(bases[r])));
      sum = add(sum, p);
      S::put(weights[r] + g * (kPage / S::kPair) * S::kWords, p);
    }
    sums[r] = sum;
  }
  const Vec total = across(sums, [](Vec x, Vec y) { return add(x, y); });
  store_lanes<R>(rows.sum, fma(load_lanes<R>(rows.sum), load(factors), total));
  in_groups<kWide<R>>(shape.width / 16, [&](auto n, int first) {
    weigh_values<S, R, n.value>(shape, weights, tile, first * 16, factors, rows.acc);
  });
}
}  // namespace
