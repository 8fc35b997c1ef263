// Passes over logits [R, V] in float32, for sampling. Mirrored by sampling/cpu_passes.py. Groups are 64 neighbouring
// tokens, G of them in a row, the last one possibly shorter.
#pragma once
#include <stdint.h>

constexpr int kGroup = 64;

extern "C" {
struct WeightArgs {
  const float *logits;        // [R, V]
  const int64_t *rows;        // [r]
  const float *largest;       // [r] of each row
  const float *temperatures;  // [r]
  float *weights;             // [r, V]: exp((logit - largest) / temperature), 0 from e^-87 on
  float *sums;                // [r, G] of weights
  int32_t num_rows, vocab_size, num_threads;
};
}
