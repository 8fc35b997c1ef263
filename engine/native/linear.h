// y = x Wᵀ + b with float32 sums, for any number of rows of bfloat16. Mirrored by models/cpu_linear.py.
//
// Weights are packed for 32 output features side by side, as one stream of memory. So one row reads the weights at the
// speed of the memory, and many rows reuse 32 features' weights from the cache. N is padded with zeros.
//
// kBfloat16Weights  [N/32][K/2][32][2]: the pairs VDPBF16PS takes; K is even.
// kInt8Weights      [N/32][K/64] groups of 32 scales in bfloat16, then [16][32][4]: the fours VPDPBUSD takes, as w + 128.
// kInt4Weights      [N/32][K/32] groups of 32 scales in bfloat16, then [4][32][4]: a byte's low half is w + 8 of one four,
//                   its high half of the next four. Groups are filled up with zeros.
//
// For kSiluMul the features come in turns, 16 of the gate and 16 of the other factor.
#pragma once
#include <stdint.h>

enum LinearResult : int32_t {
  kBfloat16,   // y bfloat16 [M, N]
  kFloat32,    // y float32 [M, N]
  kAddTo,      // y float32 [M, N], added to what is there
  kSiluMul,    // y bfloat16 [M, N / 2]: silu(gate) * other
};
enum WeightForm : int32_t { kBfloat16Weights, kInt8Weights, kInt4Weights };

extern "C" {
struct LinearWeight {
  const void *packed;
  const float *bias;         // [N] or null
  int32_t n, k, form;        // features out and in, without padding
};
struct LinearArgs {
  LinearWeight weight;
  const uint16_t *x;         // bfloat16 [M, K]
  void *scratch;             // 2 M K bytes, K to the next multiple of 64; bfloat16 weights use it for many rows only
  void *y;
  int64_t x_stride, y_stride;  // in elements
  int32_t m, result, num_threads;
};
int specserve_linear_avx512_bf16(const LinearArgs *);            // any form
int specserve_quantized_linear_avx512_bf16(const LinearArgs *);  // kInt8Weights, kInt4Weights
}
