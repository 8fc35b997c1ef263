"""RMS normalisation, alone or with the residual added on the way: one pass over memory instead of four."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _rms_norm(
    x,
    residual,
    weight,
    out,
    x_stride,
    residual_stride,
    out_stride,
    epsilon,
    size,
    ADDS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    inside = place < size
    values = tl.load(x + row * x_stride + place, mask=inside, other=0.0)
    if ADDS:
        before = tl.load(residual + row * residual_stride + place, mask=inside, other=0.0)
        # The sum is rounded as it is stored, so that the norm sees what later layers add to.
        values = (values.to(tl.float32) + before.to(tl.float32)).to(before.dtype)
        tl.store(residual + row * residual_stride + place, values, mask=inside)
    exact = values.to(tl.float32)
    scale = 1.0 / tl.sqrt_rn(tl.sum(exact * exact, 0) / size + epsilon)
    factors = tl.load(weight + place, mask=inside, other=0.0)
    normed = (exact * scale).to(values.dtype) * factors
    tl.store(out + row * out_stride + place, normed, mask=inside)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x [T, N] of rows with stride 1 inside, weight [N] → [T, N].

    Source: Zhang and Sennrich 2019, equation 4.
    """
    return _launch(x, None, weight, epsilon)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """The norm of residual + x; `residual` [T, N] becomes that sum, in place."""
    return _launch(x, residual, weight, epsilon)


def _launch(x: Tensor, residual: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
    rows, size = x.shape
    out = torch.empty(rows, size, dtype=x.dtype, device=x.device)
    if rows:
        block = triton.next_power_of_2(size)
        _rms_norm[(rows,)](
            x,
            residual,
            weight,
            out,
            x.stride(0),
            0 if residual is None else residual.stride(0),
            out.stride(0),
            epsilon,
            size,
            ADDS=residual is not None,
            BLOCK=block,
            num_warps=min(max(block // 256, 1), 16),
        )
    return out


def rms_norm_torch(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    exact = x.float()
    return (exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + epsilon)).to(x.dtype) * weight


def add_rms_norm_torch(x: Tensor, residual: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    residual.add_(x)
    return rms_norm_torch(residual, weight, epsilon)
