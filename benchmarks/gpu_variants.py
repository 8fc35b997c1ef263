"""Which launch of a kernel is fastest on this GPU: what the constants of the engine's kernels are chosen by.

    python -m benchmarks.gpu_variants [--out]

products    one row times the matrices of a 7B model, by the library and by tiles of our kernel, GB/s of weights
decode      attention of a 7B shape: number of splits, warps and stages of xformers' kernel and of ours, GB/s of keys
            and values; the first row of each is what is served

`--out` writes benchmarks/results/gpu-variants-<date>-<commit>.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import product
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_attention import batch_of, layers_of, prepared
from benchmarks.gpu_timing import Sections, Stopwatch, captured, limits, report, the_gpu
from specserve.engine.attention import triton_backend, xformers, xformers_backend
from specserve.engine.attention.backend import AttentionBackend, LayerSpec
from specserve.engine.kernels import paged_attention
from specserve.engine.kernels.vector_product import TILES, Tile, vector_product

MATRICES = {"qkv": (4608, 3584), "out": (3584, 3584), "gate_up": (37888, 3584), "down": (3584, 18944)}
HEAD = {"head": (152064, 3584)}
LAYERS = 8
"""Matrices of each shape in turn, so that none is in the device's cache when it is read."""
MORE_TILES = tuple(
    Tile(rows, columns, stages, warps)
    for rows, columns, warps in ((1, 2048, 4), (4, 512, 4), (8, 256, 2), (8, 1024, 8), (16, 256, 4), (16, 512, 4))
    for stages in (3, 4)
)
BATCHES = ((1, 4096), (8, 4096), (8, 32768), (32, 4096), (128, 4096))
WARPS_AND_STAGES = ((4, 3), (4, 2), (4, 5), (2, 3), (2, 5), (8, 3), (8, 5))
SPLITS = (None, 1, 2, 4, 8, 16, 32, 64)


def all_of(weights: Sequence[Tensor], x: Tensor, tile: Tile | None) -> Tensor:
    """Each matrix times the row, by our kernel or, without a tile, by the library; the last product."""
    for weight in weights:
        out = F.linear(x, weight) if tile is None else vector_product(x, weight, None, tile)
    return out


def products(watch: Stopwatch, matrices: dict[str, tuple[int, int]], tiles: Sequence[Tile]) -> dict[str, Any]:
    """GB/s by name of the matrix and of the way."""
    found: dict[str, Any] = {}
    for name, (rows, columns) in matrices.items():
        weights = [torch.randn(rows, columns, device=watch.device).bfloat16() for _ in range(LAYERS)]
        x = torch.randn(1, columns, device=watch.device).bfloat16()
        gb = LAYERS * rows * columns * 2 / 1e9
        found[name] = {}
        for tile in (None, *tiles):
            work = captured(partial(all_of, weights, x, tile), watch.device)
            found[name]["library" if tile is None else str(tile)] = round(gb / watch.seconds(work), 1)
    return found


@contextmanager
def launched(name: str, splits: int | None, warps: int, stages: int) -> Iterator[type[AttentionBackend]]:
    """The backend, launching its decode kernel so; `splits` None leaves the choice to it."""
    module: Any = xformers if name == "xformers" else paged_attention
    backend: Any = xformers_backend.XFormersBackend if name == "xformers" else triton_backend.TritonBackend
    with mock.patch.multiple(module, NUM_WARPS=warps, NUM_STAGES=stages):
        if splits is None:
            yield backend
        else:
            with mock.patch.object(backend, "num_splits", return_value=splits):
                yield backend


def decode(
    watch: Stopwatch, spec: LayerSpec, batches: Sequence[tuple[int, int]], names: Sequence[str] = ("xformers", "triton")
) -> dict[str, Any]:
    """GB/s by backend, batch and launch; the splits are varied with the warps and stages that are served."""
    found: dict[str, Any] = {}
    served, *others = WARPS_AND_STAGES
    launches = [*((splits, *served) for splits in SPLITS), *((None, *launch) for launch in others)]
    for name, (batch, context) in product(names, batches):
        step, num_blocks = batch_of([1] * batch, [context] * batch, watch.device)
        layers = layers_of(spec, batch * context)
        gb = 2 * batch * context * spec.num_kv_heads * spec.head_size * spec.dtype.itemsize / 1e9
        rates: dict[str, float | str] = {}
        for splits, warps, stages in launches:
            key = f"splits {splits or 'as served'} warps {warps} stages {stages}"
            try:
                with launched(name, splits, warps, stages) as backend:
                    work = prepared(backend, [spec] * layers, step, num_blocks, watch.device)
                    rates[key] = round(layers * gb / watch.seconds(captured(work, watch.device)), 1)
            except Exception as error:  # a launch that asks for too much is refused by the compiler or the driver
                rates[key] = f"{type(error).__name__}: {error}"[:120]
        found[f"{name} batch {batch} context {context}"] = rates
    return found


@torch.inference_mode()
def measure(device: torch.device) -> dict[str, Any]:
    watch = Stopwatch(device)
    spec = LayerSpec(28, 4, 128, 128, torch.bfloat16, 128**-0.5)
    found = Sections(limits=limits(watch))
    found.add("products", partial(products, watch, {**MATRICES, **HEAD}, [*TILES, *MORE_TILES]))
    found.add("decode", partial(decode, watch, spec, BATCHES))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", action="store_true", help="write the result into benchmarks/results")
    arguments = parser.parse_args()
    began, device = datetime.now(UTC), the_gpu()
    report("gpu-variants", began, device, measure(device), write=arguments.out)


if __name__ == "__main__":
    main()
