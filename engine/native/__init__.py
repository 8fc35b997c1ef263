"""Kernels in C++ for x86 CPUs, behind a C ABI: built once on the user's machine, loaded with ctypes."""
