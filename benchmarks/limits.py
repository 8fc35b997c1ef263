"""What this machine can do at most, measured in the same run: the bytes and FLOPs every figure is bounded by.

Memory bandwidth bounds decoding (all weights are read for each step), GEMM throughput bounds prefill.
Prints one JSON object. Run as `python -m benchmarks.limits`.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import torch


def median_s(work: Callable[[], object], tries: int) -> float:
    work()
    seconds = []
    for _ in range(tries):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure() -> dict[str, float]:
    """Read and copy bandwidth in GB/s, square GEMM in GFLOP/s."""
    a = torch.ones(96 << 20)
    b = torch.empty_like(a)
    found = {
        "read_gb_s": a.nbytes / 1e9 / median_s(lambda: a.amax(), 7),
        "copy_gb_s": 2 * a.nbytes / 1e9 / median_s(lambda: b.copy_(a), 7),
    }
    n = 2048
    for dtype, key in ((torch.bfloat16, "gemm_bf16_gflop_s"), (torch.float32, "gemm_fp32_gflop_s")):
        x, y = torch.randn(n, n, dtype=dtype), torch.randn(n, n, dtype=dtype)
        found[key] = 2 * n**3 / 1e9 / median_s(lambda x=x, y=y: x @ y, 5)  # type: ignore[misc]
    return {key: round(value, 1) for key, value in found.items()}


if __name__ == "__main__":
    with torch.inference_mode():
        print(json.dumps(measure() | {"threads": torch.get_num_threads()}))
