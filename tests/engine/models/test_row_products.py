"""Which way one row is multiplied: the fastest by the clock, the library's where it is as good."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specserve.engine.kernels.vector_product import TILES, Tile
from specserve.engine.models import row_products
from specserve.engine.models.quantization import Quantization
from specserve.engine.models.row_products import Product, choose_tiles
from specserve.engine.models.weight_forms import BFLOAT16, FP8


class ScriptedClock:
    """Runs what it is to time, and answers by the tile it was computed with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: dict[tuple[int, Tile | None], float]) -> None:
        """times: by rows of the weights, and the tile or None for the library."""
        self._times = times
        self._seen: set[tuple[int, Tile | None]] = set()
        self.num_products: list[int] = []
        monkeypatch.setattr(row_products, "vector_product", self._ours)
        monkeypatch.setattr(row_products, "F", self)

    def _ours(self, x: Tensor, weight: Tensor, bias: Tensor | None, tile: Tile, scales: Tensor | None = None) -> Tensor:
        self._seen.add((weight.shape[0], tile))
        self.num_products[-1] += 1
        return F.linear(x, weight if scales is None else (weight.float() * scales[:, None]).to(x.dtype), bias)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        self._seen.add((weight.shape[0], None))
        self.num_products[-1] += 1
        return F.linear(x, weight, bias)

    def __call__(self, work: Callable[[], Tensor]) -> float:
        self.num_products.append(0)
        self._seen.clear()
        work()
        assert len(self._seen) == 1, "products of one shape, one way"
        return self._times.get(self._seen.pop(), 9.0)


def product(features: int, *, bias: bool = False) -> Product:
    return Product(Quantization(), BFLOAT16, nn.Linear(32, features, bias=bias))


def test_each_shape_gets_what_was_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow, wide, biased = [product(8), product(8)], [product(64)], [product(16, bias=True)]
    clock = ScriptedClock(
        monkeypatch,
        {
            (8, None): 4.0,
            (8, TILES[1]): 2.0,
            (8, TILES[2]): 3.0,
            (64, None): 1.0,
            (64, TILES[0]): 1.5,
            (16, None): 3.0,
            (16, TILES[0]): 2.0,
        },
    )
    notes = choose_tiles([*narrow, *wide, *biased], clock)
    assert [each.tile for each in narrow] == [TILES[1]] * 2
    assert wide[0].tile is None
    assert biased[0].tile == TILES[0]
    assert notes == [
        "products of one row: 2 of 3 shapes by a kernel of our own, 1.50 to 2.00 times as fast as the library's"
    ]
    assert clock.num_products == [2] * 4 + [1] * 8  # all products of a shape behind each other


def test_the_library_stays_where_the_gain_is_within_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    alike = [product(8)]
    assert choose_tiles(alike, ScriptedClock(monkeypatch, {(8, None): 1.02, (8, TILES[0]): 1.0})) == []
    assert alike[0].tile is None


def test_products_of_8_bit_floats_are_timed_beside_those_of_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = nn.Linear(32, 16, dtype=torch.bfloat16)
    plain, rounded = Product(Quantization(), BFLOAT16, linear), Product(Quantization("fp8"), FP8, linear)
    assert rounded.weight.dtype == torch.float8_e4m3fn
    x = torch.randn(1, 32).bfloat16()
    by_library = rounded(x)
    times = iter([5.0, 9.0, 9.0, 9.0, 5.0, 1.0, 9.0, 9.0])  # the library and three tiles, each for itself
    assert len(choose_tiles([plain, rounded], lambda work: next(times))) == 1
    assert (plain.tile, rounded.tile) == (None, TILES[0])
    ScriptedClock(monkeypatch, {}).num_products.append(0)
    torch.testing.assert_close(rounded(x), by_library, atol=0.1, rtol=0.1)  # which rounds x too


def test_only_one_row_goes_to_our_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    one = product(8)
    one.tile = TILES[0]
    clock = ScriptedClock(monkeypatch, {})
    clock.num_products.append(0)
    for rows, way in ((1, TILES[0]), (2, None)):
        x = torch.randn(rows, 32)
        assert torch.equal(one(x), F.linear(x, one.weight))
        assert clock._seen == {(8, way)}
        clock._seen.clear()


def test_several_linears_are_one_product() -> None:
    parts = [nn.Linear(32, features) for features in (8, 4, 4)]
    joined = Product(Quantization(), BFLOAT16, *parts)
    x = torch.randn(3, 32)
    torch.testing.assert_close(joined(x), torch.cat([part(x) for part in parts], -1))
