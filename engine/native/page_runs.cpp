// Writing keys and values into pages, many tokens at once: what pages.cpp does for any processor, with AVX-512.
//
// Sixteen bfloat16 tokens that fill a page from its beginning are turned as a square of 16 by 16 pairs.
#include "attention.h"
#include "page_turns.h"

namespace {
struct Run { int64_t first, count; };  // tokens

void write_page(const WriteArgs &a, int64_t token) {
  const int64_t page = a.slots[token] / kPage;
  for (int h = 0; h < a.num_kv_heads; h++) {
    const auto *key = (const uint16_t *)a.key + token * a.key_token_stride + h * a.key_head_stride;
    const auto *value = (const uint16_t *)a.value + token * a.value_token_stride + h * a.value_head_stride;
    auto *to_key = (uint32_t *)a.keys + (page * a.num_kv_heads + h) * (a.head_size / 2) * kPage;
    auto *to_value = (uint32_t *)a.values + (page * a.num_kv_heads + h) * (kPage / 2) * a.value_head_size;
    for (int d = 0; d < a.head_size; d += 32) {
      const int pairs = (a.head_size - d) / 2;
      uint32_t *to = to_key + d / 2 * kPage;
      pairs < 16 ? turn_keys(key + d, a.key_token_stride, pairs, to) : turn_keys(key + d, a.key_token_stride, 16, to);
    }
    for (int t = 0; t < kPage; t += 2)
      for (int d = 0; d < a.value_head_size; d += 16) {
        const auto *even = value + t * a.value_token_stride + d;
        pair_values(even, even + a.value_token_stride, to_value + t / 2 * a.value_head_size + d);
      }
  }
}

// Nothing is stored but the token's own halves of words: the others may be written by another thread meanwhile.
void write_token(const WriteArgs &a, int64_t token) {
  const int64_t page = a.slots[token] / kPage, at = a.slots[token] % kPage;
  if (a.slots[token] < 0) return;
  for (int h = 0; h < a.num_kv_heads; h++) {
    const auto *key = (const uint16_t *)a.key + token * a.key_token_stride + h * a.key_head_stride;
    const auto *value = (const uint16_t *)a.value + token * a.value_token_stride + h * a.value_head_stride;
    auto *to_key = (uint32_t *)a.keys + (page * a.num_kv_heads + h) * (a.head_size / 2) * kPage + at;
    auto *to_value = (uint32_t *)a.values + ((page * a.num_kv_heads + h) * kPage + at) / 2 * a.value_head_size;
    for (int d = 0; d < a.head_size; d += 2) memcpy(to_key + d / 2 * kPage, key + d, 4);
    for (int d = 0; d < a.value_head_size; d += 16) put_values(value + d, at % 2, to_value + d);
  }
}

inline bool fills_a_page(const WriteArgs &a, int64_t token, int64_t end) {
  if (token + kPage > end || a.slots[token] < 0 || a.slots[token] % kPage) return false;
  for (int t = 1; t < kPage; t++)
    if (a.slots[token + t] != a.slots[token] + t) return false;
  return true;
}

void write_run(const WriteArgs &a, Run run) {
  for (int64_t t = run.first, end = t + run.count; t < end;) {
    if (fills_a_page(a, t, end)) {
      write_page(a, t), t += kPage;
      continue;
    }
    write_token(a, t++);
  }
}
}  // namespace

extern "C" int specserve_write_pages(const WriteArgs *a) {
  if (!a->is_bf16 || a->is_int8 || a->head_size % 2 || a->value_head_size % 16) return specserve_write_kv(a);
  constexpr int kRun = 64;  // tokens that one thread writes in a row
  for_each((a->num_tokens + kRun - 1) / kRun, kRun * 16, a->num_threads, [&](int i) {
    const int64_t left = a->num_tokens - (int64_t)i * kRun;
    write_run(*a, {(int64_t)i * kRun, left < kRun ? left : kRun});
  });
  return 0;
}
