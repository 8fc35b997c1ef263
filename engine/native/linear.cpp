// Matrix products of bfloat16 activations with packed bfloat16 weights: see linear.h for the layout.
//
// A thread takes 32 output features at a time. Blocks of up to 12 rows times 32 features stay in registers: 24 sums,
// two weight vectors and one broadcast pair of activations, so that loads are about half of the multiplications.
// Many rows are rearranged first, each block's pairs side by side: they are read once per 32 features.
// Features are handed out a few at a time, because on shared machines one thread may be slower than another.
#include "linear.h"

#include "threads.h"
#include "vectors.h"

namespace {
constexpr int kRows = 12, kFeatures = 32, kPairWords = kFeatures;  // words of 4 bytes per step along K
constexpr int kAhead = 1024;        // bytes: beyond what the hardware fetches ahead, as pages of memory end it
constexpr int kMany = 64;           // rows from which rearranging them pays
constexpr int64_t kAlone = 32768;   // multiply-adds below which waking the other threads costs more than it saves

struct Job { const LinearArgs *args; bool is_rearranged; int32_t next; };

// The block of rows that is pass `index` of all: [first, first + count).
struct Pass { int first, count; };
inline int num_passes(const LinearArgs &a) { return (a.m + kRows - 1) / kRows; }
inline Pass pass_at(const LinearArgs &a, int index) {
  const int passes = num_passes(a), each = a.m / passes, more = a.m % passes;
  return {index * each + (index < more ? index : more), each + (index < more)};
}

template <int M, bool kRearranged>
void multiply(const LinearArgs &a, int first, const uint16_t *weights, Vec sums[M][2]) {
  const int pairs = a.weight.k / 2;
  const auto *block = (const uint32_t *)a.scratch + (int64_t)first * pairs;
  const uint32_t *x[M];
  for (int r = 0; r < M; r++) {
    x[r] = (const uint32_t *)(a.x + (first + r) * a.x_stride);
    sums[r][0] = sums[r][1] = fill(0.f);
  }
  for (int p = 0; p < pairs; p++, weights += 2 * kPairWords) {
    __builtin_prefetch((const char *)weights + kAhead);
    __builtin_prefetch((const char *)weights + kAhead + 64);
    const __m512bh left = (__m512bh)_mm512_loadu_si512(weights);
    const __m512bh right = (__m512bh)_mm512_loadu_si512(weights + kPairWords);
    for (int r = 0; r < M; r++) {
      const __m512bh pair = (__m512bh)_mm512_set1_epi32((int)(kRearranged ? block[p * M + r] : x[r][p]));
      sums[r][0] = _mm512_dpbf16_ps(sums[r][0], left, pair);
      sums[r][1] = _mm512_dpbf16_ps(sums[r][1], right, pair);
    }
  }
}

inline __mmask16 lanes(int left) { return left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1); }

template <int M> void compute(const Job &job, int first, int block) {
  const LinearArgs &a = *job.args;
  const LinearWeight &w = a.weight;
  const uint16_t *weights = w.packed + (int64_t)block * w.k * kPairWords;
  Vec sums[M][2];
  if (job.is_rearranged)
    multiply<M, true>(a, first, weights, sums);
  else
    multiply<M, false>(a, first, weights, sums);
  const int column = block * kFeatures;
  const __mmask16 inside[2] = {lanes(w.n - column), lanes(w.n - column - 16)};
  if (w.bias)
    for (int h = 0; h < 2; h++) {
      const Vec bias = _mm512_maskz_loadu_ps(inside[h], w.bias + column + 16 * h);
      for (int r = 0; r < M; r++) sums[r][h] = add(sums[r][h], bias);
    }
  for (int r = 0; r < M; r++) {
    if (a.result == kSiluMul) {
      const Vec gate = sums[r][0], silu = div(gate, add(fill(1.f), exp_of(sub(fill(0.f), gate))));
      auto *y = (uint16_t *)a.y + (first + r) * a.y_stride + column / 2;
      _mm256_storeu_si256((__m256i *)y, (__m256i)_mm512_cvtneps_pbh(mul(silu, sums[r][1])));
      continue;
    }
    const int64_t at = (first + r) * a.y_stride + column;
    for (int h = 0; h < 2; h++) {
      if (a.result == kBfloat16) {
        const __m256i narrow = (__m256i)_mm512_cvtneps_pbh(sums[r][h]);
        _mm256_mask_storeu_epi16((uint16_t *)a.y + at + 16 * h, inside[h], narrow);
        continue;
      }
      float *y = (float *)a.y + at + 16 * h;
      const Vec before = a.result == kAddTo ? _mm512_maskz_loadu_ps(inside[h], y) : fill(0.f);
      _mm512_mask_storeu_ps(y, inside[h], add(before, sums[r][h]));
    }
  }
}

template <int M> void compute_rows(const Job &job, Pass pass, int block) {
  if constexpr (M > 0) {
    if (pass.count == M) return compute<M>(job, pass.first, block);
    compute_rows<M - 1>(job, pass, block);
  }
}

void run_share(void *data) {
  Job &job = *(Job *)data;
  const LinearArgs &a = *job.args;
  const int blocks = (a.weight.n + kFeatures - 1) / kFeatures, passes = num_passes(a);
  const int few = blocks / (8 * a.num_threads), chunk = few < 1 ? 1 : few;
  for (int from; (from = __atomic_fetch_add(&job.next, chunk, __ATOMIC_RELAXED)) < blocks;) {
    const int to = from + chunk < blocks ? from + chunk : blocks;
    for (int block = from; block < to; block++)
      for (int i = 0; i < passes; i++) compute_rows<kRows>(job, pass_at(a, i), block);
  }
}

void rearrange_share(void *data) {
  Job &job = *(Job *)data;
  const LinearArgs &a = *job.args;
  const int pairs = a.weight.k / 2;
  for (int i; (i = __atomic_fetch_add(&job.next, 1, __ATOMIC_RELAXED)) < num_passes(a);) {
    const Pass pass = pass_at(a, i);
    auto *block = (uint32_t *)a.scratch + (int64_t)pass.first * pairs;
    for (int r = 0; r < pass.count; r++) {
      const auto *x = (const uint32_t *)(a.x + (pass.first + r) * a.x_stride);
      for (int p = 0; p < pairs; p++) block[p * pass.count + r] = x[p];
    }
  }
}

void run(void (*share)(void *), Job job, bool alone) {
  if (alone)
    share(&job);
  else
    GOMP_parallel(share, &job, job.args->num_threads, 0);
}
}  // namespace

extern "C" int specserve_linear_avx512_bf16(const LinearArgs *a) {
  const bool alone = a->num_threads == 1 || (int64_t)a->m * a->weight.n * a->weight.k < kAlone;
  const bool is_many = a->scratch && a->m >= kMany;
  if (is_many) run(rearrange_share, {a, false, 0}, alone);
  run(run_share, {a, is_many, 0}, alone);
  return 0;
}
