// What Python and the sources agree on for attention: the arguments, mirrored by attention/cpu_kernel.py, and pages.
//
// A page holds 16 tokens of one key-value head, stored as the instructions want it (words of 4 bytes):
//   float32   keys [D][16]         values [16][Dv]
//   bfloat16  keys [D/2][16][2]    values [8][Dv][2]      pairs, as VDPBF16PS takes them
//   int8      the same in bytes, and behind them the 16 tokens' scales in bfloat16: a number is its byte times the
//             scale of its token, which is the largest of the token's numbers in this head over 127, rounded up.
//             Keys are turned first, see hadamard.h; D is at most kMostTurned
// Keys have tokens innermost, so a vector of 16 scores needs no horizontal sums. D is padded to even for pairs
// and Dv to 16; the padding stays zero. A block of the cache is one or more pages: page = slot / 16.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "threads.h"

constexpr int kPage = 16;

extern "C" {
struct AttendArgs {
  const void *query, *keys, *values;
  void *out;                                        // [T, H, Dv], contiguous
  const float *sinks;                               // [H] or null
  const int32_t *block_tables, *seq_lens, *query_start;
  int64_t query_token_stride, query_head_stride;    // in elements
  int32_t num_seqs, num_heads, num_kv_heads, head_size, value_head_size, block_size, table_stride, window;
  int32_t looks_ahead;                              // all tokens of a sequence see each other; a window reaches both ways
  int32_t is_bf16, is_int8, num_threads;            // queries and results (else float32); pages (else as queries)
  float scale, softcap;                             // softcap 0: none
};
struct WriteArgs {
  const void *key, *value;
  void *keys, *values;
  const int64_t *slots;                             // -1 skips the token
  int64_t key_token_stride, key_head_stride, value_token_stride, value_head_stride;
  int32_t num_tokens, num_kv_heads, head_size, value_head_size;
  int32_t is_bf16, is_int8, num_threads;
};
int specserve_write_kv(const WriteArgs *);
int specserve_write_pages(const WriteArgs *);  // the same with AVX-512
}
