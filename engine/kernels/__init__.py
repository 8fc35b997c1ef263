"""Triton kernels for NVIDIA GPUs. Beside each stands its twin in plain torch, which says what it computes."""
