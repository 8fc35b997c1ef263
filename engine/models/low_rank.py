"""What an adapter adds to linear layers: products of two narrow matrices, y += (x Aᵀ) Bᵀ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from specserve.engine.adapter import AdapterRows

PRODUCTS = ("qkv", "out", "gate_up", "down")
"""The products of a layer of the lean decoders: linears that read the same inputs are one."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """a [r, in] and b [out, r], in float32; the scale is in b."""

    a: Tensor
    b: Tensor

    def matches(self, num_in: int, num_out: int) -> bool:
        return self.a.shape[1] == num_in and self.b.shape[0] == num_out and self.a.shape[0] == self.b.shape[1]


def joined(parts: Sequence[LowRank | None], widths: Sequence[int]) -> LowRank | None:
    """Of linears that are computed as one, their features in a row: `parts` read the same inputs.

    widths  features out of each part; what has no weights gets zeros. None if no part has any.
    """
    there = [part for part in parts if part is not None]
    if not there:
        return None
    total, rank = sum(widths), sum(part.a.shape[0] for part in there)
    b = torch.zeros(total, rank)
    row = column = 0
    for part, width in zip(parts, widths, strict=True):
        if part is not None:
            b[row : row + width, column : column + part.a.shape[0]] = part.b
            column += part.a.shape[0]
        row += width
    return LowRank(torch.cat([part.a for part in there]), b)


class LayerWidths(NamedTuple):
    """Features out of the linears that are joined."""

    query: int
    key: int
    inner: int

    @classmethod
    def of(cls, layer: Any) -> LayerWidths:
        """`layer` is one of transformers' Llama-shaped ones."""
        attention = layer.self_attn
        return cls(
            attention.q_proj.weight.shape[0], attention.k_proj.weight.shape[0], layer.mlp.gate_proj.weight.shape[0]
        )


def products_of_layer(weights: Mapping[str, LowRank], prefix: str, widths: LayerWidths) -> dict[str, LowRank]:
    """By the names in PRODUCTS, of the layer whose linears' names begin with `prefix`; those that there are."""
    query, key, value = (weights.get(f"{prefix}self_attn.{name}_proj") for name in "qkv")
    gate, up = (weights.get(f"{prefix}mlp.{name}_proj") for name in ("gate", "up"))
    found = {
        "qkv": joined((query, key, value), (widths.query, widths.key, widths.key)),
        "out": weights.get(f"{prefix}self_attn.o_proj"),
        "gate_up": joined((gate, up), (widths.inner, widths.inner)),
        "down": weights.get(f"{prefix}mlp.down_proj"),
    }
    return {name: product for name, product in found.items() if product is not None}


def add_to_head(logits: Tensor, normed: Tensor, rows: Tensor, adapters: Sequence[AdapterRows]) -> Tensor:
    """logits [R, V], changed in place where adapters change the language head.

    normed [R, H]   what the head reads
    rows [R] int64  which of the step's tokens they are
    """
    for each in adapters:
        if each.weights.head is None:
            continue
        mine = ((rows >= each.start) & (rows < each.stop)).nonzero()[:, 0]
        if len(mine):
            changed = logits[mine]
            each.weights.head.add_to(changed, normed[mine])
            logits[mine] = changed
    return logits


class PlainLowRank:
    """Both matrices as they are multiplied on any device: y += (x Aᵀ) Bᵀ."""

    def __init__(self, weights: LowRank, dtype: torch.dtype, device: torch.device) -> None:
        self._a = weights.a.to(device, dtype)
        self._b = weights.b.to(device, dtype)

    def add_to(self, y: Tensor, x: Tensor) -> None:
        """y [T, out], in place; x [T, in]."""
        y.addmm_(x @ self._a.T, self._b.T)
