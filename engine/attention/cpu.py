"""Paged attention on CPUs: our own kernel where it was built and fits a layer, pure torch for the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from specserve.engine.attention.backend import AttentionMetadata, LayerCache, LayerSpec
from specserve.engine.attention.cpu_gather import GatherLayer, GatherStep

DEFAULT_BLOCK_SIZE = 16


class CpuBackend:
    """Each layer runs on the path that fits it; `describe` tells which, for the start banner."""

    name = "cpu"

    @classmethod
    def default_block_size(cls) -> int:
        return DEFAULT_BLOCK_SIZE

    @classmethod
    def refuses(cls, layers: list[LayerSpec], device: torch.device, block_size: int) -> str | None:
        if device.type != "cpu":
            return f"it runs on CPUs, not on {device}"
        return None

    def __init__(self, layers: list[LayerSpec], device: torch.device, block_size: int) -> None:
        self.block_size = block_size
        self._layers = [GatherLayer(spec, block_size) for spec in layers]
        self._num_blocks = 0
        self._step: GatherStep | None = None

    def describe(self) -> list[str]:
        return ["attention: pure torch"]

    def bytes_per_block(self) -> int:
        return sum(layer.bytes_per_block() for layer in self._layers)

    def allocate(self, num_blocks: int) -> list[LayerCache]:
        self._num_blocks = num_blocks
        return [layer.allocate(num_blocks) for layer in self._layers]

    def plan(self, metadata: AttentionMetadata) -> None:
        metadata.check(self.block_size)
        self._step = GatherStep(metadata, self.block_size, null_slot=self._num_blocks * self.block_size)

    def write_kv(self, layer: int, key: Tensor, value: Tensor, cache: LayerCache) -> None:
        assert self._step is not None, "plan was not called"
        self._layers[layer].write_kv(self._step, key, value, cache)

    def attend(self, layer: int, query: Tensor, cache: LayerCache, sinks: Tensor | None = None) -> Tensor:
        assert self._step is not None, "plan was not called"
        return self._layers[layer].attend(self._step, query, cache, sinks)
