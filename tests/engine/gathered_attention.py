"""A backend for tests of captured steps: plain torch that looks at nothing on the host, over caches [slots, K, D]."""

from __future__ import annotations

import torch
from torch import Tensor

from specserve.engine.attention.backend import AttentionMetadata, LayerCache, LayerSpec
from specserve.engine.attention.reference import ReferenceBackend, attend_one_sequence


class GatheredBackend(ReferenceBackend):
    """Decodes gather every slot of the table and mask by the lengths on the device; the rest is the reference's."""

    name = "triton"  # whose place it takes

    @classmethod
    def default_block_size(cls) -> int:
        return 4

    def __init__(self, layers: list[LayerSpec], device: torch.device, block_size: int) -> None:
        super().__init__(layers, device, block_size)
        self.slots = torch.empty(0, dtype=torch.int64)
        self._buffers: dict[int, Tensor] = {}
        self._skipped = 0

    def allocate(self, num_blocks: int) -> list[LayerCache]:
        self._skipped = num_blocks * self.block_size
        slots = (num_blocks + 1) * self.block_size
        return [
            LayerCache(
                *(torch.zeros(slots, spec.num_kv_heads, spec.head_size, dtype=spec.dtype) for _ in ("keys", "values"))
            )
            for spec in self._layers
        ]

    def plan(self, metadata: AttentionMetadata) -> None:
        super().plan(metadata)
        mapping = metadata.slot_mapping
        self.slots = self._buffers.setdefault(len(mapping), torch.zeros(len(mapping), dtype=torch.int64))
        self.slots.copy_(torch.where(mapping < 0, self._skipped, mapping))

    def write_kv(self, layer: int, key: Tensor, value: Tensor, cache: LayerCache) -> None:
        cache.keys.index_copy_(0, self.slots, key)
        cache.values.index_copy_(0, self.slots, value)

    def note_written(self, layer: int, key: Tensor, value: Tensor) -> None: ...

    def attend(self, layer: int, query: Tensor, cache: LayerCache, sinks: Tensor | None = None) -> Tensor:
        assert self._step is not None
        step, spec = self._step, self._layers[layer]
        if step.num_decodes == len(step.query_lens):
            return self._decode(query, cache, spec, step)
        pieces, start = [], 0
        for row, (query_len, seq_len) in enumerate(zip(step.query_lens, step.seq_lens_list, strict=True)):
            position = torch.arange(seq_len)
            slot = (
                step.block_tables[row].long()[position // self.block_size] * self.block_size
                + position % self.block_size
            )
            chunk = query[start : start + query_len]
            pieces.append(attend_one_sequence(chunk, cache.keys[slot], cache.values[slot], spec, sinks))
            start += query_len
        return torch.cat(pieces)

    def _decode(self, query: Tensor, cache: LayerCache, spec: LayerSpec, step: AttentionMetadata) -> Tensor:
        inside = torch.arange(self.block_size)
        slots = (step.block_tables.long()[..., None] * self.block_size + inside).flatten(1)
        group = spec.num_heads // spec.num_kv_heads
        keys, values = (part[slots].repeat_interleave(group, 2) for part in (cache.keys, cache.values))
        scores = torch.einsum("bhd,blhd->bhl", query, keys) * spec.scale
        position = torch.arange(slots.shape[1])
        hidden = position >= step.seq_lens[:, None]
        if spec.window is not None:
            hidden = hidden | (position < step.seq_lens[:, None] - spec.window)
        weights = scores.masked_fill(hidden[:, None], float("-inf")).softmax(-1)
        return torch.einsum("bhl,blhd->bhd", weights, values)
