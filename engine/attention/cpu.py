"""Paged attention on CPUs: our own kernel where it was built and fits a layer, pure torch for the rest."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from specserve.engine.attention.backend import AttentionMetadata, LayerCache, LayerSpec
from specserve.engine.attention.cpu_gather import GatherLayer, GatherStep
from specserve.engine.attention.cpu_kernel import Kernel, KernelLayer, KernelStep
from specserve.engine.native.library import ISA_VARIABLE, KernelUnavailableError, asked_isa

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
        if any(spec.cache_dtype not in (None, torch.int8) for spec in layers):
            return "it rounds keys and values to int8 only"
        return None

    def __init__(self, layers: list[LayerSpec], device: torch.device, block_size: int, isa: str | None = None) -> None:
        """`isa` as in SPECSERVE_CPU_ISA, which it overrides; one that cannot be had is told, not raised."""
        self.block_size = block_size
        self.kernel: Kernel | None = None
        self._notes: list[str] = []
        isa = isa or asked_isa()
        if isa == "torch":
            self._notes.append(f"pure torch, as asked for ({ISA_VARIABLE})")
        else:
            try:
                self.kernel = Kernel(isa)
            except KernelUnavailableError as error:
                self._notes.append(f"pure torch, slower than the kernel: {error}")
        self._layers = [self._layer(spec) for spec in layers]
        self._num_blocks = 0
        self._kernel_step: KernelStep | None = None
        self._gather_step: GatherStep | None = None
        self._describe_layers(layers)

    def _layer(self, spec: LayerSpec) -> KernelLayer | GatherLayer:
        if self.kernel is None or KernelLayer.misfit(spec, self.block_size):
            return GatherLayer(spec, self.block_size)
        return KernelLayer(self.kernel, spec, self.block_size)

    def _describe_layers(self, layers: list[LayerSpec]) -> None:
        if self.kernel is None:
            return
        misfits = Counter(KernelLayer.misfit(spec, self.block_size) for spec in layers)
        if served := misfits.pop(None, 0):
            self._notes.append(f"kernel with {self.kernel.isa} for {served} of {len(layers)} layers")
        for reason, count in misfits.items():
            self._notes.append(f"pure torch for {count} of {len(layers)} layers: {reason}")

    def describe(self) -> list[str]:
        """One line per path taken, with the reason of every fallback."""
        return [f"CPU attention: {note}" for note in self._notes]

    def is_all_kernel(self, isa: str | None = None) -> bool:
        """Whether the kernel serves every layer, with this instruction set or any."""
        served = all(isinstance(layer, KernelLayer) for layer in self._layers)
        return self.kernel is not None and isa in (None, self.kernel.isa) and served

    @property
    def kernel_step(self) -> KernelStep:
        """The planned step as the kernel reads it."""
        assert self._kernel_step is not None, "plan was not called"
        return self._kernel_step

    def bytes_per_block(self) -> int:
        return sum(layer.bytes_per_block() for layer in self._layers)

    def allocate(self, num_blocks: int) -> list[LayerCache]:
        self._num_blocks = num_blocks
        return [layer.allocate(num_blocks) for layer in self._layers]

    def plan(self, metadata: AttentionMetadata) -> None:
        """Also checks that every block and slot exists: the kernel reads addresses computed from them."""
        metadata.check(self.block_size)
        num_slots = self._num_blocks * self.block_size
        tables, slots = metadata.block_tables, metadata.slot_mapping
        if tables.numel() and (int(tables.min()) < 0 or int(tables.max()) >= self._num_blocks):
            raise ValueError(f"a block table names a block outside of the {self._num_blocks} allocated ones")
        if slots.numel() and int(slots.max()) >= num_slots:
            raise ValueError(f"slot {int(slots.max())} is outside of the {num_slots} allocated ones")
        if any(isinstance(layer, KernelLayer) for layer in self._layers):
            self._kernel_step = KernelStep(metadata)
        if any(isinstance(layer, GatherLayer) for layer in self._layers):
            self._gather_step = GatherStep(metadata, self.block_size, null_slot=num_slots)

    def write_kv(self, layer: int, key: Tensor, value: Tensor, cache: LayerCache) -> None:
        served = self._layers[layer]
        if isinstance(served, KernelLayer):
            served.write_kv(self.kernel_step, key, value, cache)
        else:
            assert self._gather_step is not None, "plan was not called"
            served.write_kv(self._gather_step, key, value, cache)

    def attend(self, layer: int, query: Tensor, cache: LayerCache, sinks: Tensor | None = None) -> Tensor:
        served = self._layers[layer]
        if isinstance(served, KernelLayer):
            return served.attend(self.kernel_step, query, cache, sinks)
        assert self._gather_step is not None, "plan was not called"
        return served.attend(self._gather_step, query, cache, sinks)
