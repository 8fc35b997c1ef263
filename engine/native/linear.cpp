// Matrix products of bfloat16 activations with packed bfloat16 weights: see linear.h for the layout.
//
// Blocks of up to 12 rows times 32 features stay in registers: 24 sums, two weight vectors and one broadcast pair of
// activations, so that loads are about half of the multiplications. Many rows are rearranged first, each block's pairs
// side by side: they are read once per 32 features.
#include "linear.h"

#include "linear_tiles.h"

namespace {
constexpr int kPairWords = kFeatures;  // words of 4 bytes per step along K
constexpr int kFour = 4;               // pairs of a row that stay together when rows are rearranged
constexpr int kMany = 64;              // rows from which rearranging them pays

inline int num_fours(int pairs) { return (pairs + kFour - 1) / kFour; }

struct Bfloat16Weights : Stored {
  static constexpr int kRows = 12;
  bool is_rearranged;

  // Fours of pairs of all rows of a block side by side. What is left of K is filled up with whatever is there.
  void prepare(const LinearArgs &a, Pass pass) const {
    const int pairs = a.weight.k / 2;
    auto *to = (__m128i *)a.scratch + (int64_t)pass.first * num_fours(pairs);
    for (int p = 0; p < pairs; p += kFour)
      for (int r = 0; r < pass.count; r++) {
        const auto *x = (const uint32_t *)(a.x + (pass.first + r) * a.x_stride) + p;
        _mm_storeu_si128(to++, _mm_maskz_loadu_epi32(lanes(pairs - p), x));
      }
  }

  template <int M> void multiply(const LinearArgs &a, int first, int block, Vec sums[M][2]) const {
    is_rearranged ? multiply<M, true>(a, first, block, sums) : multiply<M, false>(a, first, block, sums);
  }

  template <int M, bool kRearranged>
  static void multiply(const LinearArgs &a, int first, int block, Vec sums[M][2]) {
    const int pairs = a.weight.k / 2;
    const auto *weights = (const uint32_t *)a.weight.packed + (int64_t)block * pairs * kPairWords;
    const auto *rearranged = (const uint32_t *)a.scratch + (int64_t)first * num_fours(pairs) * kFour;
    const uint32_t *x[M];
    for (int r = 0; r < M; r++) {
      x[r] = (const uint32_t *)(a.x + (first + r) * a.x_stride);
      sums[r][0] = sums[r][1] = fill(0.f);
    }
    const auto add_pair = [&](auto pair_of) {
      __builtin_prefetch((const char *)weights + kAhead);
      __builtin_prefetch((const char *)weights + kAhead + 64);
      const __m512bh left = (__m512bh)_mm512_loadu_si512(weights);
      const __m512bh right = (__m512bh)_mm512_loadu_si512(weights + kPairWords / 2);
      weights += kPairWords;
      for (int r = 0; r < M; r++) {
        const __m512bh pair = (__m512bh)_mm512_set1_epi32((int)pair_of(r));
        sums[r][0] = _mm512_dpbf16_ps(sums[r][0], left, pair);
        sums[r][1] = _mm512_dpbf16_ps(sums[r][1], right, pair);
      }
    };
    if constexpr (!kRearranged) {
      for (int p = 0; p < pairs; p++) add_pair([&](int r) { return x[r][p]; });
      return;
    }
    int p = 0;
    for (; p + kFour <= pairs; p += kFour, rearranged += M * kFour)
      for (int at = 0; at < kFour; at++) add_pair([&](int r) { return rearranged[r * kFour + at]; });
    for (int at = 0; p + at < pairs; at++) add_pair([&](int r) { return rearranged[r * kFour + at]; });
  }
};
}  // namespace

extern "C" int specserve_linear_avx512_bf16(const LinearArgs *a) {
  if (a->weight.form != kBfloat16Weights) return specserve_quantized_linear_avx512_bf16(a);
  const bool is_many = a->scratch && a->m >= kMany;
  run_product(*a, Bfloat16Weights{{}, is_many}, is_many ? (int64_t)a->m * a->weight.n * a->weight.k : 0);
  return 0;
}
