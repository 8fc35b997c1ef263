// What products have in common whatever the form of their weights: sharing them out, and what becomes of the sums.
//
// A thread takes 32 output features at a time and passes over blocks of up to kRows rows, whose sums stay in registers.
// Features are handed out in pieces that get smaller, because on shared machines one thread may be slower than another.
//
// A form has `kRows`, `prepare(args, pass)`, which rearranges a block of rows in args.scratch,
// `multiply<M>(args, first, block, sums)`, which computes M rows times 32 features, and `finish<M>(same)`, which stores
// them. What it computes for a row must not depend on the rows beside it.
#pragma once
#include "linear.h"
#include "threads.h"
#include "vectors.h"

namespace {
constexpr int kFeatures = 32;
constexpr int kAhead = 64;          // bytes: hardware stops fetching ahead at the end of a page; more takes bandwidth away

template <class Form> struct Job { const LinearArgs *args; const Form *form; int32_t next; };

// The block of rows that is pass `index` of all: [first, first + count).
struct Pass { int first, count; };
inline int num_passes(int m, int rows) { return (m + rows - 1) / rows; }
inline Pass pass_at(int m, int rows, int index) {
  const int passes = num_passes(m, rows), each = m / passes, more = m % passes;
  return {index * each + (index < more ? index : more), each + (index < more)};
}

inline __mmask16 lanes(int left) { return left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1); }

inline Vec silu_of(Vec x) { return div(x, add(fill(1.f), exp_of(sub(fill(0.f), x)))); }

template <int M> void store_sums(const LinearArgs &a, int first, int block, Vec sums[M][2]) {
  const LinearWeight &w = a.weight;
  const int column = block * kFeatures;
  const __mmask16 inside[2] = {lanes(w.n - column), lanes(w.n - column - 16)};
  if (w.bias)
    for (int h = 0; h < 2; h++) {
      const Vec bias = _mm512_maskz_loadu_ps(inside[h], w.bias + column + 16 * h);
      for (int r = 0; r < M; r++) sums[r][h] = add(sums[r][h], bias);
    }
  for (int r = 0; r < M; r++) {
    if (a.result == kSiluMul) {
      auto *y = (uint16_t *)a.y + (first + r) * a.y_stride + column / 2;
      _mm256_storeu_si256((__m256i *)y, (__m256i)_mm512_cvtneps_pbh(mul(silu_of(sums[r][0]), sums[r][1])));
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

struct Stored {
  template <int M> void finish(const LinearArgs &a, int first, int block, Vec sums[M][2]) const {
    store_sums<M>(a, first, block, sums);
  }
};

template <int M, class Form> void compute_rows(const LinearArgs &a, const Form &form, Pass pass, int block) {
  if constexpr (M > 0) {
    if (pass.count != M) return compute_rows<M - 1>(a, form, pass, block);
    Vec sums[M][2];
    form.template multiply<M>(a, pass.first, block, sums);
    form.template finish<M>(a, pass.first, block, sums);
  }
}

// Takes [from, to) of what is left of `count`: a quarter of a thread's part of it, so that all end at once.
inline int take(int32_t &next, int count, int threads, int &to) {
  int32_t from = __atomic_load_n(&next, __ATOMIC_RELAXED);
  do {
    const int few = (count - from) / (4 * threads);
    to = from + (few < 1 ? 1 : few);
  } while (from < count && !__atomic_compare_exchange_n(&next, &from, to, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return from;
}

template <class Form> void multiply_share(void *data) {
  auto &job = *(Job<Form> *)data;
  const LinearArgs &a = *job.args;
  const int blocks = (a.weight.n + kFeatures - 1) / kFeatures, passes = num_passes(a.m, Form::kRows);
  for (int from, to; (from = take(job.next, blocks, a.num_threads, to)) < blocks;)
    for (int block = from; block < to; block++)
      for (int i = 0; i < passes; i++)
        compute_rows<Form::kRows>(a, *job.form, pass_at(a.m, Form::kRows, i), block);
}

template <class Form> void prepare_share(void *data) {
  auto &job = *(Job<Form> *)data;
  const LinearArgs &a = *job.args;
  for (int i; (i = __atomic_fetch_add(&job.next, 1, __ATOMIC_RELAXED)) < num_passes(a.m, Form::kRows);)
    job.form->prepare(a, pass_at(a.m, Form::kRows, i));
}

// Both halves of a product. `work` and `preparation` are about how much each has to do.
template <class Form> void run_product(const LinearArgs &a, const Form &form, int64_t preparation) {
  const auto run = [&](void (*share)(void *), int64_t work) {
    Job<Form> job = {&a, &form, 0};
    if (a.num_threads == 1 || work < kAlone)
      share(&job);
    else
      GOMP_parallel(share, &job, a.num_threads, 0);
  };
  if (preparation) run(prepare_share<Form>, preparation);
  run(multiply_share<Form>, (int64_t)a.m * a.weight.n * a.weight.k);
}
}  // namespace
