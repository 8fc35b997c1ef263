// Residual and layer norm of encoders whose norms stand behind each half of a layer (BERT and its kind).
//
// The residual stream stays in float32; the products read it rounded to bfloat16. Mean and variance are taken in two
// passes over a row that is in the cache.
#include "encoder.h"

#include <math.h>

#include "threads.h"
#include "vectors.h"

namespace {
void add_norm(const AddNormArgs &a, int t) {
  const int size = a.hidden_size;
  float *x = a.hidden + (int64_t)t * size;
  Vec sum = fill(0.f);
  if (a.added) {
    const uint16_t *added = a.added + (int64_t)t * size;
    for (int i = 0; i < size; i += 16) {
      const Vec y = add(load(x + i), widen(_mm256_loadu_si256((const __m256i *)(added + i))));
      store(x + i, y);
      sum = add(sum, y);
    }
  } else {
    for (int i = 0; i < size; i += 16) sum = add(sum, load(x + i));
  }
  const Vec mean = fill(sum_of(sum) / size);
  Vec squares = fill(0.f);
  for (int i = 0; i < size; i += 16) {
    const Vec d = sub(load(x + i), mean);
    squares = fma(d, d, squares);
  }
  const Vec factor = fill(1.f / sqrtf(sum_of(squares) / size + a.epsilon));
  uint16_t *rounded = a.rounded + (int64_t)t * size;
  for (int i = 0; i < size; i += 16) {
    const Vec y = fma(mul(sub(load(x + i), mean), factor), load(a.weight + i), load(a.bias + i));
    store(x + i, y);
    _mm256_storeu_si256((__m256i *)(rounded + i), (__m256i)_mm512_cvtneps_pbh(y));
  }
}
}  // namespace

extern "C" int specserve_add_norm_avx512_bf16(const AddNormArgs *args) {
  const AddNormArgs &a = *args;
  for_each(a.num_tokens, a.hidden_size, a.num_threads, [&](int t) { add_norm(a, t); });
  return 0;
}
