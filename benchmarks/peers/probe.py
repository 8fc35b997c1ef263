"""A process that measures read bandwidth and bfloat16 products whenever a line on its standard input asks for it.

It lives on the servers' cores and is suspended between its turns, so that every share of a bound rests on rates of the
same minutes. Answers one JSON line: `read_gb_s`, `gemm_gflop_s`.
"""

from __future__ import annotations

import json
import sys

import torch

from benchmarks.limits import median_s

READ_FLOATS = 128 << 20
SIDE = 4096


def main() -> None:
    read = torch.ones(READ_FLOATS)
    x, y = torch.randn(SIDE, SIDE, dtype=torch.bfloat16), torch.randn(SIDE, SIDE, dtype=torch.bfloat16)
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        found = {
            "read_gb_s": read.nbytes / 1e9 / median_s(lambda: read.amax(), 9),
            "gemm_gflop_s": 2 * SIDE**3 / 1e9 / median_s(lambda: x @ y, 3),
        }
        print(json.dumps({key: round(value, 1) for key, value in found.items()}), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
