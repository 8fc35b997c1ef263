"""Keys and values of 8 bits in torch: for paths without a kernel, and the truth of the kernels' tests.

int8 is a byte for each number and one bfloat16 scale for each token and head, as native/pages.cpp writes them: the
largest number over 127, rounded up so that none is cut off. Keys are turned before that: some models have a few numbers
in them that are many times as large as the others, and the scale would be theirs. float8_e4m3fn has no scale; numbers
beyond its largest one become that. Both are rounded to even once, when they are written.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALE_BYTES = 2
LARGEST_CODE = 127
LARGEST_FLOAT8 = 448.0
LEAST_SCALE = 2.0**-119
"""Rows of which the largest number is smaller than 127 of it become zeros."""


def packed_size(size: int) -> int:
    """Bytes that `size` numbers take with their scale, padding to even included."""
    return size + size % 2 + SCALE_BYTES


def encode(rows: Tensor) -> tuple[Tensor, Tensor]:
    """rows [..., D] → int8 [..., D] and bfloat16 scales [...]; the scale of a row that is not finite is NaN."""
    exact = rows.float()
    largest = exact.abs().amax(-1)
    bits = (largest / LARGEST_CODE).contiguous().view(torch.int32)
    scale = ((bits + 0xFFFF) >> 16).to(torch.int16).view(torch.bfloat16)
    scale = torch.where(scale.float() < LEAST_SCALE, torch.zeros_like(scale), scale)
    scale = torch.where(largest.isfinite(), scale, torch.full_like(scale, float("nan")))
    is_usable = scale.float() > 0
    inverse = torch.where(is_usable, 1.0 / scale.float(), 0.0)
    codes = torch.where(is_usable[..., None], exact * inverse[..., None], 0.0).round()
    return codes.to(torch.int8), scale


def decode(codes: Tensor, scales: Tensor) -> Tensor:
    """int8 [..., D] and scales [...] → float32 [..., D], without rounding."""
    return codes.float() * scales.float()[..., None]


def turned_length(size: int) -> int:
    """Of the pieces of a head that are turned: the largest power of two that divides its size."""
    return size & -size


def turn(rows: Tensor) -> Tensor:
    """rows [..., D] float32, each piece of length L times the Hadamard matrix of that size, which is not normalized.

    Products of two turned rows are L times those of the rows, and a row turned twice is L times itself. The order of
    sums is that of native/hadamard.h, to the bit. Source: Ashkboos et al. 2024 (QuaRot), section 4, stage 1c.
    """
    size, half = rows.shape[-1], 1
    while half < turned_length(size):
        pairs = rows.reshape(*rows.shape[:-1], size // (2 * half), 2, half)
        low, high = pairs[..., 0, :], pairs[..., 1, :]
        rows = torch.stack([low + high, low - high], -2).flatten(-3)
        half *= 2
    return rows


def pack(rows: Tensor) -> Tensor:
    """rows [..., D] → uint8 [..., packed_size(D)]: bytes, padding, scale."""
    codes, scales = encode(rows)
    padded = torch.nn.functional.pad(codes, (0, rows.shape[-1] % 2)).view(torch.uint8)
    return torch.cat([padded, scales.contiguous()[..., None].view(torch.uint8)], dim=-1)


def unpack(packed: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """uint8 [..., packed_size(size)] → numbers [..., size] of `dtype`."""
    scales = packed[..., -SCALE_BYTES:].contiguous().view(torch.bfloat16)[..., 0]
    return decode(packed[..., :size].contiguous().view(torch.int8), scales).to(dtype)


def to_float8(rows: Tensor) -> Tensor:
    """Rows as float8_e4m3fn; NaN stays NaN."""
    return rows.clamp(-LARGEST_FLOAT8, LARGEST_FLOAT8).to(torch.float8_e4m3fn)


def stored_size(size: int, cache_dtype: torch.dtype | None) -> int:
    """Elements that a row of `size` numbers takes."""
    return packed_size(size) if cache_dtype is torch.int8 else size


def stored_dtype(dtype: torch.dtype, cache_dtype: torch.dtype | None) -> torch.dtype:
    """Of those elements, in layers that compute in `dtype`."""
    return torch.uint8 if cache_dtype is torch.int8 else cache_dtype or dtype


def store(rows: Tensor, cache_dtype: torch.dtype | None, *, are_keys: bool) -> Tensor:
    """rows [..., D] → [..., stored_size(D)]."""
    if cache_dtype is None:
        return rows
    if cache_dtype is torch.int8:
        return pack(turn(rows.float()) if are_keys else rows)
    return to_float8(rows)


def restore(
    stored: Tensor, size: int, cache_dtype: torch.dtype | None, dtype: torch.dtype, *, are_keys: bool
) -> Tensor:
    """[..., stored_size(size)] → numbers [..., size] of `dtype`."""
    if cache_dtype is not torch.int8:
        return stored.to(dtype)
    rows = unpack(stored, size, torch.float32)
    return (turn(rows) / turned_length(size) if are_keys else rows).to(dtype)
