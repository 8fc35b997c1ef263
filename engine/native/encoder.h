// Between the products of an encoder: see models/cpu_encoder.py, which mirrors the struct.
#pragma once
#include <stdint.h>

extern "C" {
struct AddNormArgs {
  float *hidden;             // [T, H], overwritten with the result; H is a multiple of 16
  const uint16_t *added;     // bfloat16 [T, H], added before; null: nothing
  const float *weight, *bias;  // [H]
  uint16_t *rounded;         // bfloat16 [T, H]: the result as the next product reads it
  int32_t num_tokens, hidden_size, num_threads;
  float epsilon;
};
int specserve_add_norm_avx512_bf16(const AddNormArgs *);
}
