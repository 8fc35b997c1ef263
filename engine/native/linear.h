// y = x Wᵀ + b in bfloat16 with float32 sums, for any number of rows. Mirrored by models/cpu_linear.py.
//
// Packed weights [N/32][K/2][32][2]: for 32 output features the pairs VDPBF16PS takes, as one stream of memory. So
// one row reads the weights at the speed of the memory, and many rows reuse 32 features' weights from the cache.
// N and K are padded with zeros. For kSiluMul the features come in turns, 16 of the gate and 16 of the other factor.
#pragma once
#include <stdint.h>

enum LinearResult : int32_t {
  kBfloat16,   // y bfloat16 [M, N]
  kFloat32,    // y float32 [M, N]
  kAddTo,      // y float32 [M, N], added to what is there
  kSiluMul,    // y bfloat16 [M, N / 2]: silu(gate) * other
};

extern "C" {
struct LinearWeight {
  const uint16_t *packed;
  const float *bias;         // [N] or null
  int32_t n, k;              // features out and in, without padding
};
struct LinearArgs {
  LinearWeight weight;
  const uint16_t *x;         // bfloat16 [M, K], K even
  uint16_t *scratch;         // [M, K], used for many rows
  void *y;
  int64_t x_stride, y_stride;  // in elements
  int32_t m, result, num_threads;
};
int specserve_linear_avx512_bf16(const LinearArgs *);
}
