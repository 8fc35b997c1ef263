"""The benchmark of launches in Triton's interpreter, with tiny shapes: each variant is launched as it says."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch

from benchmarks import gpu_attention, gpu_variants
from benchmarks.gpu_timing import Stopwatch
from benchmarks.gpu_variants import decode, launched, products
from specserve.engine.attention import xformers
from specserve.engine.attention.backend import LayerSpec
from specserve.engine.kernels import paged_attention
from specserve.engine.kernels.vector_product import TILES

pytestmark = pytest.mark.interpreted

CPU = torch.device("cpu")
SPEC = LayerSpec(4, 2, 32, 32, torch.float16, 0.2)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_variants, "LAYERS", 2)
    monkeypatch.setattr(gpu_attention, "CACHE_BYTES", 0)  # one layer
    monkeypatch.setattr(gpu_variants, "SPLITS", (None, 2))
    monkeypatch.setattr(gpu_variants, "WARPS_AND_STAGES", ((4, 3), (2, 2)))


def test_every_way_of_a_product_has_its_rate() -> None:
    found = products(Stopwatch(CPU, tries=1), {"out": (8, 64)}, TILES[:1])
    assert list(found) == ["out"]
    assert list(found["out"]) == ["library", str(TILES[0])]


def test_every_launch_of_both_backends_has_its_rate() -> None:
    found = decode(Stopwatch(CPU, tries=1), SPEC, [(2, 70)])
    assert list(found) == ["xformers batch 2 context 70", "triton batch 2 context 70"]
    for rates in found.values():
        assert list(rates) == [
            "splits as served warps 4 stages 3",
            "splits 2 warps 4 stages 3",
            "splits as served warps 2 stages 2",
        ]
        assert all(isinstance(rate, float) for rate in rates.values()), rates


@pytest.mark.parametrize(("name", "module"), [("xformers", xformers), ("triton", paged_attention)])
def test_a_variant_lasts_as_long_as_it_is_measured(name: str, module: Any) -> None:
    served = (module.NUM_WARPS, module.NUM_STAGES)
    with launched(name, 7, 2, 5) as backend:
        assert (module.NUM_WARPS, module.NUM_STAGES) == (2, 5)
        assert backend([SPEC], CPU, 64).num_splits(1, 2) == 7
    assert served == (module.NUM_WARPS, module.NUM_STAGES)
    with launched(name, None, 4, 3) as backend:
        assert not isinstance(backend.num_splits, mock.Mock)
