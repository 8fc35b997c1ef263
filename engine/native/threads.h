// Threads come from GOMP_parallel, the entry every OpenMP runtime has, so that any compiler can build this and the
// one pool is torch's. Always all of them: libgomp ends those that a smaller team leaves out.
#pragma once

extern "C" {
void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned);
int omp_get_max_threads(void);
int omp_get_thread_num(void);
}
