"""The truth of the tests: attention written as its definition, on any device and in any data type.

One sequence and one head group at a time, softmax in float32 (float64 for float64 inputs), nothing fused and
nothing fast. Knows no kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specserve.engine.attention.backend import AttentionMetadata, LayerCache, LayerSpec
from specserve.engine.attention.rounded_rows import restore, store, stored_dtype, stored_size

DEFAULT_BLOCK_SIZE = 16


class ReferenceBackend:
    """Serves every layer everywhere. Caches are [B, S, K, D]: B blocks of S slots, K key-value heads.

    Rounded ones are in the form of rounded_rows.py.
    """

    name = "reference"

    @classmethod
    def default_block_size(cls) -> int:
        return DEFAULT_BLOCK_SIZE

    @classmethod
    def refuses(cls, layers: list[LayerSpec], device: torch.device, block_size: int) -> str | None:
        return None

    def __init__(self, layers: list[LayerSpec], device: torch.device, block_size: int) -> None:
        self.block_size = block_size
        self._layers = layers
        self._device = device
        self._step: AttentionMetadata | None = None

    def describe(self) -> list[str]:
        return ["attention: reference backend; correct, but far slower than the others"]

    def bytes_per_block(self) -> int:
        return self.block_size * sum(
            spec.num_kv_heads * (_stored_bytes(spec, spec.head_size) + _stored_bytes(spec, spec.value_head_size))
            for spec in self._layers
        )

    def allocate(self, num_blocks: int) -> list[LayerCache]:
        caches = []
        for spec in self._layers:
            shape = (num_blocks, self.block_size, spec.num_kv_heads)
            stored = stored_dtype(spec.dtype, spec.cache_dtype)
            keys, values = (
                torch.zeros(*shape, stored_size(size, spec.cache_dtype), dtype=stored, device=self._device)
                for size in (spec.head_size, spec.value_head_size)
            )
            caches.append(LayerCache(keys=keys, values=values))
        return caches

    def plan(self, metadata: AttentionMetadata) -> None:
        metadata.check(self.block_size)
        self._step = metadata

    def write_kv(self, layer: int, key: Tensor, value: Tensor, cache: LayerCache) -> None:
        assert self._step is not None, "plan was not called"
        slots = self._step.slot_mapping
        written = slots >= 0
        kept = self._layers[layer].cache_dtype
        _indexable(cache.keys).flatten(0, 1)[slots[written]] = _indexable(store(key, kept, are_keys=True))[written]
        _indexable(cache.values).flatten(0, 1)[slots[written]] = _indexable(store(value, kept, are_keys=False))[written]

    def attend(self, layer: int, query: Tensor, cache: LayerCache, sinks: Tensor | None = None) -> Tensor:
        assert self._step is not None, "plan was not called"
        spec, step = self._layers[layer], self._step
        keys, values = _indexable(cache.keys).flatten(0, 1), _indexable(cache.values).flatten(0, 1)
        stored = stored_dtype(spec.dtype, spec.cache_dtype)
        out = query.new_zeros(query.shape[0], spec.num_heads, spec.value_head_size)
        start = 0
        for row, (query_len, seq_len) in enumerate(zip(step.query_lens, step.seq_lens_list, strict=True)):
            position = torch.arange(seq_len, device=query.device)
            block = step.block_tables[row].long()[position // self.block_size]
            slot = block * self.block_size + position % self.block_size
            exact = spec.dtype if spec.cache_dtype is None else torch.float32
            k = restore(keys[slot].view(stored), spec.head_size, spec.cache_dtype, exact, are_keys=True)
            v = restore(values[slot].view(stored), spec.value_head_size, spec.cache_dtype, exact, are_keys=False)
            out[start : start + query_len] = attend_one_sequence(query[start : start + query_len], k, v, spec, sinks)
            start += query_len
        return out


def _indexable(x: Tensor) -> Tensor:
    """8-bit floats as bytes: not every device indexes the floats."""
    return x.view(torch.uint8) if x.dtype == torch.float8_e4m3fn else x


def _stored_bytes(spec: LayerSpec, size: int) -> int:
    """Of one head of a token's keys or values."""
    return stored_size(size, spec.cache_dtype) * stored_dtype(spec.dtype, spec.cache_dtype).itemsize


def attend_one_sequence(query: Tensor, keys: Tensor, values: Tensor, spec: LayerSpec, sinks: Tensor | None) -> Tensor:
    """The last Q of L positions attend, causally unless `spec` says otherwise.

    query [Q, H, D], keys [L, K, D], values [L, K, Dv] → [Q, H, Dv]

    Source: Vaswani et al. 2017, section 3.2.1; grouped heads: Ainslie et al. 2023; soft-capping: Gemma 2
    report 2024, section 2; sinks: a logit per head that takes probability and gives no value.
    """
    exact = torch.float64 if query.dtype == torch.float64 else torch.float32
    query_len, seq_len = query.shape[0], keys.shape[0]
    # Blocks behind every query's window may hold another sequence by now.
    first = 0 if spec.window is None else max(0, seq_len - query_len + 1 - spec.window)
    keys, values = keys[first:], values[first:]
    at_query = torch.arange(seq_len - query_len, seq_len, device=query.device)[:, None]
    at_key = torch.arange(first, seq_len, device=query.device)[None, :]
    visible = at_key <= at_query if spec.is_causal else at_key >= 0
    if spec.window is not None:
        visible = visible & ((at_key - at_query).abs() < spec.window)
    out = query.new_zeros(query_len, spec.num_heads, spec.value_head_size)
    for head in range(spec.num_heads):
        kv_head = head // (spec.num_heads // spec.num_kv_heads)
        scores = query[:, head].to(exact) @ keys[:, kv_head].to(exact).T * spec.scale
        if spec.softcap is not None:
            scores = spec.softcap * torch.tanh(scores / spec.softcap)
        scores = scores.masked_fill(~visible, float("-inf"))
        if sinks is not None:
            scores = torch.cat([scores, sinks[head].to(exact).expand(query_len, 1)], dim=1)
        probabilities = torch.softmax(scores, dim=1)[:, : keys.shape[0]]
        out[:, head] = (probabilities @ values[:, kv_head].to(exact)).to(query.dtype)
    return out
