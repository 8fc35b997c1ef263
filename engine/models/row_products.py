"""Products of one row with the weights of a layer, on GPUs: by the library or by a kernel of our own, as measured.

A step of one sequence does little else than read weights, and how near a product comes to the memory's bandwidth
depends on the card, the library's version and the shape of the matrix. So each shape is timed where it will run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specserve.engine.kernels.vector_product import TILES, Tile, vector_product
from specserve.engine.models.clock import Clock
from specserve.engine.models.fp8_linear import Fp8Product, fits
from specserve.engine.models.quantization import Quantization
from specserve.engine.models.weight_forms import FP8, WeightForm

LEAST_GAIN = 1.03
"""What our kernel has to be faster by: a timing differs from the next by some hundredths."""


class Product:
    """x [T, K] → x Wᵀ + b [T, N], W in the form that is wanted."""

    def __init__(self, quantization: Quantization, form: WeightForm, *linears: nn.Linear) -> None:
        """One product whose features are those of all `linears`, in order."""
        weights = [linear.weight.detach() for linear in linears]
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        self.tile: Tile | None = None
        """Of our kernel, where one row is to be multiplied by it."""
        self.dtype = weights[0].dtype
        self.weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        self.bias = torch.cat(biases) if biases else None
        self._rounded: Fp8Product | None = None
        self._scales: Tensor | None = None
        if form is FP8 and fits(self.weight):
            quantization.count(form, self.weight.numel())
            self._rounded = Fp8Product(self.weight, self.bias)
            self.weight, self._scales = self._rounded.weight, self._rounded.scales

    def __call__(self, x: Tensor) -> Tensor:
        return self.by(self.tile if x.shape[0] == 1 else None, x)

    def by(self, tile: Tile | None, x: Tensor) -> Tensor:
        """By our kernel, or without a tile by the library."""
        if tile is not None:
            return vector_product(x, self.weight, self.bias, tile, self._scales)
        return F.linear(x, self.weight, self.bias) if self._rounded is None else self._rounded(x)


@torch.inference_mode()
def choose_tiles(products: Iterable[Product], seconds: Clock) -> list[str]:
    """Give the products of each shape the way that is fastest for one row; a note for the start banner, if any.

    The products of a shape are timed behind each other, as a step takes them: together they are larger than the
    device's cache, which would be what is measured otherwise.
    """
    shapes: dict[tuple[torch.Size, torch.dtype, bool], list[Product]] = {}
    for product in products:
        shapes.setdefault((product.weight.shape, product.weight.dtype, product.bias is not None), []).append(product)
    gains = []
    for alike in shapes.values():
        library = seconds(_all_of(alike, None))
        best, tile = min(((seconds(_all_of(alike, tile)), tile) for tile in TILES), key=lambda found: found[0])
        if library >= LEAST_GAIN * best:
            gains.append(library / best)
            for product in alike:
                product.tile = tile
    if not gains:
        return []
    return [
        f"products of one row: {len(gains)} of {len(shapes)} shapes by a kernel of our own, "
        f"{min(gains):.2f} to {max(gains):.2f} times as fast as the library's"
    ]


def _all_of(products: Sequence[Product], tile: Tile | None) -> Callable[[], Tensor]:
    weight = products[0].weight
    # Drawn on the host: a capture that failed leaves the device's own generator unusable.
    x = torch.randn(1, weight.shape[1]).to(weight.device, products[0].dtype)

    def work() -> Tensor:
        for product in products:
            out = product.by(tile, x)
        return out

    return work
