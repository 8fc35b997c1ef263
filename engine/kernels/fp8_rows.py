"""Rows of activations as 8-bit floats with one scale each, in one pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST = 448.0
"""Of float8_e4m3fn. Source: Micikevicius et al. 2022, table 1."""
LEAST_SCALE = 1e-12


@triton.jit
def _fp8_rows(x, out, scales, x_stride, out_stride, size, largest, least, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    inside = place < size
    values = tl.load(x + row * x_stride + place, mask=inside, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(values), 0) / largest, least)
    tl.store(scales + row, scale)
    scaled = tl.minimum(tl.maximum(values / scale, -largest), largest)
    tl.store(out + row * out_stride + place, scaled.to(out.dtype.element_ty), mask=inside)


def fp8_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """x [T, K] ≈ q * scale: q [T, K] float8_e4m3fn, scale [T, 1] float32."""
    rows, size = x.shape
    out = torch.empty(rows, size, dtype=torch.float8_e4m3fn, device=x.device)
    scales = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    if rows:
        block = triton.next_power_of_2(size)
        _fp8_rows[(rows,)](
            x,
            out,
            scales,
            x.stride(0),
            out.stride(0),
            size,
            LARGEST,
            LEAST_SCALE,
            BLOCK=block,
            num_warps=min(max(block // 256, 1), 16),
        )
    return out, scales
