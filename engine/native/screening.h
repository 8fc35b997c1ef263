// The highest logits of each row, exactly, without all products of an output head: see screening.cpp.
// Mirrored by models/screened_head.py.
#pragma once
#include "linear.h"

extern "C" {
struct RoughHead {
  const void *packed;        // the head in kInt8Weights
  const float *norms;        // [2][N to the next multiple of 32]: lengths of its rows, and of their differences to the head's
};
struct ScreenArgs {
  LinearWeight head;         // kBfloat16Weights, without bias
  RoughHead rough;
  const uint16_t *x;         // bfloat16 [M, K]
  void *scratch;             // see LinearArgs
  float *bounds;             // scratch [M][2][blocks of 32 features, to the next multiple of 16]
  float *y;                  // float32 [M, N]
  int32_t m, num_threads;
  int32_t most;              // blocks times rows that are computed exactly; from more on all are
  int32_t num_exact;         // out: how many were
};
struct RoughenArgs {
  LinearWeight head;
  void *packed;              // out, as `RoughHead` has them
  float *norms;
  int32_t num_threads;
};
int specserve_screen_avx512_bf16(ScreenArgs *);
int specserve_roughen_avx512_bf16(const RoughenArgs *);
}
