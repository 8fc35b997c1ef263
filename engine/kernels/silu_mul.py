"""The gate of a SwiGLU layer: SiLU(gate) · up in one pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@triton.jit
def _silu_mul(gate_up, out, gate_up_stride, out_stride, size, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    gate = tl.load(gate_up + row * gate_up_stride + place, mask=inside, other=0.0)
    up = tl.load(gate_up + row * gate_up_stride + size + place, mask=inside, other=0.0)
    exact = gate.to(tl.float32)
    gated = (exact / (1.0 + tl.exp(-exact))).to(gate.dtype)
    tl.store(out + row * out_stride + place, gated * up, mask=inside)


def silu_mul(gate_up: Tensor) -> Tensor:
    """gate_up [T, 2 I], all of the gate before all of what it multiplies → [T, I].

    Source: Shazeer 2020, equation 6.
    """
    rows, width = gate_up.shape
    size = width // 2
    out = torch.empty(rows, size, dtype=gate_up.dtype, device=gate_up.device)
    if rows:
        grid = (rows, triton.cdiv(size, BLOCK))
        _silu_mul[grid](gate_up, out, gate_up.stride(0), out.stride(0), size, BLOCK=BLOCK, num_warps=4)
    return out


def silu_mul_torch(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up
