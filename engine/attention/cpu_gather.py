"""The pure-torch path of CPU attention: gather a sequence's blocks, then torch's attention over the copy.

Serves every layer and needs no compiler. Decodes of similar length run together, with the query heads of a
group as query rows (7 to 8 times faster than `enable_gqa` on a CPU); prefill chunks run one sequence at a
time. Soft-capping, sinks and values of another size than keys take an explicit float32 form. Nothing outside
of a sequence's own tokens is ever read: padding is gathered from a block of zeros behind the last one, for a
masked NaN is still a NaN once it is multiplied by zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from specserve.engine.attention.backend import AttentionMetadata, LayerCache, LayerSpec
from specserve.engine.attention.cache_memory import lazy_zeros
from specserve.engine.attention.rounded_rows import restore, store, stored_dtype, stored_size

GROUP_TOKENS = 8192
"""Padded tokens gathered for one group of decodes: enough to fill the cores, few enough to stay in cache."""
PREFILL_ROWS = 256
"""Query tokens per piece of the explicit form, which bounds its score matrix."""


@dataclass(slots=True)
class DecodeGroup:
    """G decodes gathered together: query rows [G], slots [G, L], mask [G, 1, 1, L] or None if all is seen."""

    rows: Tensor
    slots: Tensor
    mask: Tensor | None


@dataclass(slots=True)
class PrefillChunk:
    """One sequence's Q query tokens from row `start`, its visible slots [L] and their mask [Q, L]."""

    start: int
    length: int
    slots: Tensor
    mask: Tensor


class GatherStep:
    """One step's gather indices, made once per window size and shared by all layers that have it."""

    def __init__(self, metadata: AttentionMetadata, block_size: int, null_slot: int) -> None:
        self.metadata = metadata
        self._block_size = block_size
        self._null_slot = null_slot
        self._decodes: dict[int | None, list[DecodeGroup]] = {}
        self._prefills: dict[int | None, list[PrefillChunk]] = {}
        slots = metadata.slot_mapping
        self.written: Tensor | None = None
        """Rows of this step that have a slot; None when all of them do."""
        if bool((slots < 0).any()):
            self.written = (slots >= 0).nonzero()[:, 0]
            slots = slots[self.written]
        self.slots = slots

    def decodes(self, window: int | None) -> list[DecodeGroup]:
        if window not in self._decodes:
            self._decodes[window] = self._group_decodes(window)
        return self._decodes[window]

    def prefills(self, window: int | None) -> list[PrefillChunk]:
        if window not in self._prefills:
            self._prefills[window] = self._cut_prefills(window)
        return self._prefills[window]

    def _slots_of(self, row: int, first: int, last: int) -> Tensor:
        """Slots of the sequence's positions [first, last)."""
        position = torch.arange(first, last)
        block = self.metadata.block_tables[row].long()[position // self._block_size]
        return block * self._block_size + position % self._block_size

    def _group_decodes(self, window: int | None) -> list[DecodeGroup]:
        visible = [
            length if window is None else min(length, window)
            for length in self.metadata.seq_lens_list[: self.metadata.num_decodes]
        ]
        groups: list[list[int]] = []
        for row in sorted(range(len(visible)), key=visible.__getitem__, reverse=True):
            longest = visible[groups[-1][0]] if groups else 0
            similar = visible[row] >= 0.8 * longest - 64
            if groups and similar and (len(groups[-1]) + 1) * longest <= GROUP_TOKENS:
                groups[-1].append(row)
            else:
                groups.append([row])
        return [self._decode_group(rows, [visible[row] for row in rows]) for rows in groups]

    def _decode_group(self, rows: list[int], visible: list[int]) -> DecodeGroup:
        longest, lengths = visible[0], torch.tensor(visible)
        ends = torch.tensor([self.metadata.seq_lens_list[row] for row in rows])
        offset = torch.arange(longest)
        inside = offset < lengths[:, None]
        position = (ends - lengths)[:, None] + torch.where(inside, offset, 0)
        block = self.metadata.block_tables[rows].long().gather(1, position // self._block_size)
        slots = torch.where(inside, block * self._block_size + position % self._block_size, self._null_slot)
        ragged = visible[-1] != longest
        at = self.metadata.query_start[rows].long()
        return DecodeGroup(rows=at, slots=slots, mask=inside[:, None, None, :] if ragged else None)

    def _cut_prefills(self, window: int | None) -> list[PrefillChunk]:
        chunks = []
        meta = self.metadata
        start = meta.num_decodes
        for row in range(meta.num_decodes, len(meta.query_lens)):
            query_len, seq_len = meta.query_lens[row], meta.seq_lens_list[row]
            if query_len:
                first = 0 if window is None else max(0, seq_len - query_len + 1 - window)
                at_query = torch.arange(seq_len - query_len, seq_len)[:, None]
                at_key = torch.arange(first, seq_len)
                mask = at_key <= at_query
                if window is not None:
                    mask &= at_key > at_query - window
                chunks.append(PrefillChunk(start, query_len, self._slots_of(row, first, seq_len), mask))
            start += query_len
        return chunks


class GatherLayer:
    """One layer on the pure-torch path; caches are [B + 1, S, K, D], the last block is zeros.

    Rounded ones are in the form of rounded_rows.py.
    """

    def __init__(self, spec: LayerSpec, block_size: int) -> None:
        self.spec = spec
        self._block_size = block_size
        self._group = spec.num_heads // spec.num_kv_heads
        self._stored = stored_dtype(spec.dtype, spec.cache_dtype)
        self._key_size = stored_size(spec.head_size, spec.cache_dtype)
        self._value_size = stored_size(spec.value_head_size, spec.cache_dtype)

    def bytes_per_block(self) -> int:
        slot = self.spec.num_kv_heads * (self._key_size + self._value_size) * self._stored.itemsize
        return self._block_size * slot

    def allocate(self, num_blocks: int) -> LayerCache:
        shape = (num_blocks + 1, self._block_size, self.spec.num_kv_heads)
        return LayerCache(
            keys=lazy_zeros((*shape, self._key_size), self._stored),
            values=lazy_zeros((*shape, self._value_size), self._stored),
        )

    def write_kv(self, step: GatherStep, key: Tensor, value: Tensor, cache: LayerCache) -> None:
        if step.written is not None:
            key, value = key[step.written], value[step.written]
        key = store(key, self.spec.cache_dtype, are_keys=True)
        value = store(value, self.spec.cache_dtype, are_keys=False)
        cache.keys.flatten(0, 1).index_copy_(0, step.slots, key)
        cache.values.flatten(0, 1).index_copy_(0, step.slots, value)

    def attend(self, step: GatherStep, query: Tensor, cache: LayerCache, sinks: Tensor | None) -> Tensor:
        spec = self.spec
        out = query.new_zeros(query.shape[0], spec.num_heads, spec.value_head_size)
        for group in step.decodes(spec.window):
            size, length = group.slots.shape
            slots = group.slots.flatten()
            q = query[group.rows].view(size, spec.num_kv_heads, self._group, spec.head_size)
            k, v = (each.view(size, length, spec.num_kv_heads, -1) for each in self._gathered(cache, slots))
            per_row = None if sinks is None else sinks.view(spec.num_kv_heads, self._group, 1)
            result = self._attention(q, k.transpose(1, 2), v.transpose(1, 2), group.mask, per_row)
            out[group.rows] = result.reshape(size, spec.num_heads, -1)
        for chunk in step.prefills(spec.window):
            k, v = (each.transpose(0, 1) for each in self._gathered(cache, chunk.slots))
            if self._group > 1:
                k, v = k.repeat_interleave(self._group, 0), v.repeat_interleave(self._group, 0)
            per_head = None if sinks is None else sinks.view(spec.num_heads, 1, 1)
            rows = chunk.length if self._plain(sinks) else PREFILL_ROWS
            for first in range(0, chunk.length, rows):
                last = min(first + rows, chunk.length)
                q = query[chunk.start + first : chunk.start + last].transpose(0, 1)
                mask = chunk.mask[None, None, first:last]
                result = self._attention(q[None], k[None], v[None], mask, per_head)
                out[chunk.start + first : chunk.start + last] = result[0].transpose(0, 1)
        return out

    def _gathered(self, cache: LayerCache, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Keys [N, K, D] and values [N, K, Dv] of the slots [N], as the layer computes with them."""
        spec = self.spec
        keys, values = (each.flatten(0, 1).index_select(0, slots) for each in (cache.keys, cache.values))
        return (
            restore(keys, spec.head_size, spec.cache_dtype, spec.dtype, are_keys=True),
            restore(values, spec.value_head_size, spec.cache_dtype, spec.dtype, are_keys=False),
        )

    def _plain(self, sinks: Tensor | None) -> bool:
        spec = self.spec
        return spec.softcap is None and sinks is None and spec.head_size == spec.value_head_size

    def _attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, sinks: Tensor | None) -> Tensor:
        """q [B, N, Q, D], k [B, N, L, D], v [B, N, L, Dv], mask broadcast to [B, N, Q, L] → [B, N, Q, Dv]."""
        if self._plain(sinks):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.spec.scale)
        exact = torch.float64 if q.dtype == torch.float64 else torch.float32
        scores = (q.to(exact) @ k.to(exact).mT).mul_(self.spec.scale)
        if self.spec.softcap is not None:
            scores = scores.div_(self.spec.softcap).tanh_().mul_(self.spec.softcap)
        if mask is not None:
            scores.masked_fill_(~mask, float("-inf"))
        if sinks is not None:
            scores = torch.cat([scores, sinks.to(exact).expand(*scores.shape[:-1], 1)], dim=-1)
        probabilities = scores.softmax(-1)[..., : k.shape[-2]]
        return (probabilities @ v.to(exact)).to(q.dtype)
