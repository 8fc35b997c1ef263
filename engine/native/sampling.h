// Passes over logits [R, V] in float32, for sampling. Mirrored by sampling/cpu_passes.py. Groups are 64 neighbouring
// tokens, G of them in a row, the last one possibly shorter.
#pragma once
#include <stdint.h>

constexpr int kGroup = 64;

extern "C" {
struct ForbidArgs {
  float *logits;              // [R, V], edited
  const uint32_t *allowed;    // [r, ceil(V / 32)], one bit for each token, lowest first
  const int64_t *rows;        // [r]
  float *maxima;              // [r, G] of what the rows are afterwards
  int32_t num_rows, vocab_size, num_threads;
  float forbidden;            // what takes the place of a logit
};
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
