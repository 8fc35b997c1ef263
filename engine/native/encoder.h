// Encoders whose norms stand behind each half of a layer (BERT and its kind). Sizes are counts of elements: T tokens,
// hidden size H, inner size I, head size D, B texts. Mirrored by models/cpu_encoder.py and models/fused_encoder.py.
#pragma once
#include <stdint.h>

#include "linear.h"

extern "C" {
struct NormWeight { const float *weight, *bias; };  // [H]

// One pass for residual and norm, between products that are made elsewhere.
struct AddNormArgs {
  float *hidden;             // [T, H], overwritten with the result; H is a multiple of 16
  const uint16_t *added;     // bfloat16 [T, H], added before; null: nothing
  NormWeight norm;
  uint16_t *rounded;         // bfloat16 [T, H]: the result as the next product reads it
  int32_t num_tokens, hidden_size, num_threads;
  float epsilon;
};
int specserve_add_norm_avx512_bf16(const AddNormArgs *);

// A whole encoder in one call. H and I are multiples of 32, D of 16.
enum Activation : int32_t { kGelu, kGeluTanh, kRelu };
struct EncoderLayer {
  LinearWeight qkv, out, inner, down;  // bfloat16; rows of qkv: all queries, all keys, all values
  NormWeight attention_norm, output_norm;
};
struct EmbeddingTable { const uint16_t *rows; int64_t count; };  // bfloat16 [count, H]; rows null: there is none
struct EncoderArgs {
  const EncoderLayer *layers;
  EmbeddingTable words, positions, types;
  NormWeight norm;                       // of the embeddings
  const int64_t *ids, *places, *kinds;   // [T] rows of the tables; kinds null: all 0
  const int32_t *starts;                 // [B + 1] the texts' first tokens, and T
  const int32_t *seen;                   // [B] how many tokens of a text, from its first on, are seen by all of it
  float *hidden;                         // [T, H] out
  // Scratch. P counts pages of 16 tokens, of which every text has its own.
  uint16_t *queries;                     // [T, H]
  uint16_t *keys, *values;               // [2, 16 P, H]
  uint8_t *own;                          // [threads, specserve_encoder_scratch]
  int32_t num_layers, num_texts, hidden_size, inner_size, head_size, num_threads;
  int32_t activation;
  float epsilon, scale;                  // of the norms, of attention scores
};
int64_t specserve_encoder_scratch(const EncoderArgs *);  // bytes for each thread
// 0; 1 when memory cannot be had; 2 when an id, a place or a kind is not in its table
int specserve_encode_avx512_bf16(const EncoderArgs *);
}
