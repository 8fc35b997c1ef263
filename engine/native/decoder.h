// A Llama-shaped decoder: everything between the embeddings and the logits of one step, in one call.
// Mirrored by models/cpu_decoder.py. Sizes are counts of elements; T tokens, hidden size H, head size D.
#pragma once
#include <stdint.h>

#include "attention.h"
#include "linear.h"
#include "screening.h"

extern "C" {
struct DecoderLayer {
  const float *attention_norm, *mlp_norm;    // [H]
  const float *query_norm, *key_norm;        // [D] or null
  LinearWeight qkv, out, gate_up, down;      // rows of qkv: all queries, all keys, all values
  void *keys, *values;                       // pages, see attention.h
  int32_t window;                            // 0: none
};
struct AdapterProduct { LinearWeight a, b; };  // y += (x Aᵀ) Bᵀ, A [r, K] and B [N, r]; nothing where a has no weights
struct AdapterLayer { AdapterProduct qkv, out, gate_up, down; };
struct AdapterRows {
  const AdapterLayer *layers;
  int32_t first, count;                      // of the step's tokens; rows of different adapters do not overlap
};
struct DecoderArgs {
  const DecoderLayer *layers;
  const float *final_norm;                   // [H]
  LinearWeight head;                         // without weights: `normed` holds the last hidden states of the rows
  const float *frequencies;                  // [D / 2] radians per position
  const int64_t *positions, *slots;          // [T]; slot -1: the token's keys are not kept
  const int32_t *block_tables, *seq_lens, *query_start;
  const int64_t *rows;                       // [R] tokens whose logits are wanted
  float *hidden;                             // [T, H] in: embeddings, out: overwritten
  float *logits;                             // [R, V]
  uint16_t *normed, *projected, *attended, *inner;  // scratch: [T, H], [T, (heads + 2 kv heads) D], [T, heads D], [T, I]
  uint16_t *rearranged;                      // scratch of the products: [T, max(H, heads D, I)], see linear.h
  float *turns;                              // scratch: [T, D], cosines then sines
  ScreenArgs *screen;                        // null: all logits are wanted; else the highest, `rough` and `bounds` are set
  const AdapterRows *adapters;
  float *wide;                               // scratch where there are adapters: [T, max((heads + 2 kv heads) D, 2 I)]
  uint16_t *low;                             // the same: [T, largest r]
  int32_t num_layers, num_tokens, num_rows, num_seqs, hidden_size, num_heads, num_kv_heads, head_size;
  int32_t block_size, table_stride, is_int8, num_threads, num_adapters;  // is_int8: the pages, see attention.h
  float epsilon, scale, rotary_scale;        // of the norms, of attention scores, of cosines and sines
};
int specserve_decode_avx512_bf16(const DecoderArgs *);
int specserve_attend_avx512_bf16(const AttendArgs *);
}
