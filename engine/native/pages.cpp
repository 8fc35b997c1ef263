// What of the CPU kernels needs no special instructions: writing keys and values into pages, and asking the
// processor which variants of the others it can run.
#include "attention.h"

namespace {
template <class T, int kPair> void write_token(const WriteArgs &a, int64_t token) {
  const int64_t slot = a.slots[token], page = slot / kPage, at = slot % kPage;
  if (slot < 0) return;
  const int key_rows = (a.head_size + kPair - 1) / kPair, width = (a.value_head_size + 15) / 16 * 16;
  for (int h = 0; h < a.num_kv_heads; h++) {
    const T *key = (const T *)a.key + token * a.key_token_stride + h * a.key_head_stride;
    const T *value = (const T *)a.value + token * a.value_token_stride + h * a.value_head_stride;
    T *to_key = (T *)a.keys + (page * a.num_kv_heads + h) * key_rows * kPage * kPair;
    T *to_value = (T *)a.values + (page * a.num_kv_heads + h) * kPage * width + at / kPair * width * kPair;
    for (int d = 0; d < a.head_size; d++) to_key[(d / kPair * kPage + at) * kPair + d % kPair] = key[d];
    for (int d = 0; d < a.value_head_size; d++) to_value[d * kPair + at % kPair] = value[d];
  }
}

void write_share(void *data) {
  const WriteArgs &a = *(const WriteArgs *)data;
  const int64_t threads = a.num_tokens < 64 ? 1 : a.num_threads, me = threads == 1 ? 0 : omp_get_thread_num();
  for (int64_t t = a.num_tokens * me / threads; t < a.num_tokens * (me + 1) / threads; t++)
    a.is_bf16 ? write_token<uint16_t, 2>(a, t) : write_token<uint32_t, 1>(a, t);
}
}  // namespace

extern "C" void specserve_write_token(const WriteArgs *a, int64_t token) {
  a->is_bf16 ? write_token<uint16_t, 2>(*a, token) : write_token<uint32_t, 1>(*a, token);
}

extern "C" int specserve_write_kv(const WriteArgs *a) {
  if (a->num_tokens < 64 || a->num_threads == 1)
    write_share((void *)a);
  else
    GOMP_parallel(write_share, (void *)a, a->num_threads, 0);
  return 0;
}

extern "C" int specserve_max_threads() { return omp_get_max_threads(); }

extern "C" int specserve_supports_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
extern "C" int specserve_supports_avx512() {
  return specserve_supports_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
extern "C" int specserve_supports_avx512_bf16() {
  return specserve_supports_avx512() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
}
