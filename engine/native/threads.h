// Threads come from GOMP_parallel, the entry every OpenMP runtime has, so that any compiler can build this and the
// one pool is torch's. Always all of them: libgomp ends those that a smaller team leaves out.
#pragma once
#include <stdint.h>

extern "C" {
void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned);
int omp_get_max_threads(void);
int omp_get_thread_num(void);
}

namespace {  // each instruction set has its own copy
constexpr int64_t kAlone = 32768;  // elements below which waking the other threads costs more than it saves

template <class Work> struct Share { const Work *work; int count, threads; };
template <class Work> void run_share_of(void *data) {
  const auto &share = *(const Share<Work> *)data;
  const int64_t me = share.threads == 1 ? 0 : omp_get_thread_num();
  for (int64_t i = share.count * me / share.threads; i < share.count * (me + 1) / share.threads; i++)
    (*share.work)((int)i);
}
// Calls work(i) for all i in [0, count), each of which touches `size` elements.
template <class Work> inline void for_each(int count, int64_t size, int threads, const Work &work) {
  Share<Work> share = {&work, count, count * size < kAlone ? 1 : threads};
  if (share.threads == 1)
    run_share_of<Work>(&share);
  else
    GOMP_parallel(run_share_of<Work>, &share, threads, 0);
}
}  // namespace
