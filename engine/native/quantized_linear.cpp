// Matrix products of bfloat16 activations with int8 and int4 weights: see linear.h for the layout.
#include "quantized_tiles.h"

extern "C" int specserve_quantized_linear_avx512_bf16(const LinearArgs *a) {
  const int64_t preparation = (int64_t)a->m * a->weight.k;
  if (a->weight.form == kInt8Weights)
    run_product(*a, QuantizedWeights<Int8>{}, preparation);
  else
    run_product(*a, QuantizedWeights<Int4>{}, preparation);
  return 0;
}
