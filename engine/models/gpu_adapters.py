"""Adapters beside the lean decoder of GPUs: plain narrow products, launched for each adapter of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from specserve.engine.adapter import AdapterRows
from specserve.engine.models.low_rank import LayerWidths, LowRank, PlainLowRank, products_of_layer


class GpuAdapter:
    """All weights of one adapter: `layers[i]` has products by the names in PRODUCTS."""

    def __init__(
        self,
        weights: Mapping[str, LowRank],
        num_layers: int,
        widths: LayerWidths,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        def plain(product: LowRank) -> PlainLowRank:
            return PlainLowRank(product, dtype, device)

        self.layers = [
            {name: plain(one) for name, one in products_of_layer(weights, f"model.layers.{at}.", widths).items()}
            for at in range(num_layers)
        ]
        self.head = plain(weights["lm_head"]) if "lm_head" in weights else None


def add_to(y: Tensor, x: Tensor, adapters: Sequence[AdapterRows], layer: int, name: str) -> Tensor:
    """y [T, out], changed in place where adapters have this product; x [T, in]."""
    for each in adapters:
        product = each.weights.layers[layer].get(name)
        if product is not None:
            product.add_to(y[each.start : each.stop], x[each.start : each.stop])
    return y
