"""A matrix times one row, as a single sequence decodes: every weight is read once, so memory sets the pace."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tile:
    """Weights that a program of `num_warps` warps looks at together, the next ones being `stages` - 1 tiles ahead."""

    rows: int
    columns: int
    stages: int
    num_warps: int


TILES = (Tile(4, 1024, 3, 4), Tile(8, 512, 4, 4), Tile(2, 1024, 4, 4))
"""Each keeps 110 to 140 KB in flight on a multiprocessor, four times what the memory's latency asks for; which one is
fastest depends on the matrix, so it is measured (`models.row_products`)."""


@triton.jit
def _vector_product(
    x,
    weight,
    bias,
    scales,
    out,
    weight_stride,
    num_rows,
    num_columns,
    ADDS: tl.constexpr,
    SCALES: tl.constexpr,
    DIVIDES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STAGES: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row = row < num_rows
    place = tl.arange(0, COLUMNS)
    lines = weight + row.to(tl.int64)[:, None] * weight_stride + place[None, :]
    # Summed by place, and over the places once at the end: the loop needs no exchange between threads.
    sums = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in tl.range(0, num_columns, COLUMNS, num_stages=STAGES):
        if DIVIDES:
            factors = tl.load(x + first + place)
            weights = tl.load(lines + first, mask=is_row[:, None], other=0.0)
        else:
            inside = first + place < num_columns
            factors = tl.load(x + first + place, mask=inside, other=0.0)
            weights = tl.load(lines + first, mask=is_row[:, None] & inside[None, :], other=0.0)
        sums += weights.to(tl.float32) * factors.to(tl.float32)[None, :]
    total = tl.sum(sums, 1)
    if SCALES:
        total *= tl.load(scales + row, mask=is_row, other=0.0)
    if ADDS:
        total += tl.load(bias + row, mask=is_row, other=0.0).to(tl.float32)
    tl.store(out + row, total.to(out.dtype.element_ty), mask=is_row)


def vector_product(
    x: Tensor, weight: Tensor, bias: Tensor | None, tile: Tile = TILES[0], scales: Tensor | None = None
) -> Tensor:
    """x [1, K], weight [N, K] with stride 1 inside a row, bias [N] or None → x Wᵀ + b [1, N] of x's type.

    `scales` [N] float32 multiply the rows of weights in float8_e4m3fn; x is not rounded for them.
    Its twin is torch.nn.functional.linear; both sum in float32.
    """
    num_rows, num_columns = weight.shape
    out = torch.empty(1, num_rows, dtype=x.dtype, device=x.device)
    _vector_product[(triton.cdiv(num_rows, tile.rows),)](
        x,
        weight,
        bias,
        scales,
        out,
        weight.stride(0),
        num_rows,
        num_columns,
        ADDS=bias is not None,
        SCALES=scales is not None,
        DIVIDES=num_columns % tile.columns == 0,
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        STAGES=tile.stages,
        num_warps=tile.num_warps,
    )
    return out
