"""Attention of models that compute whole sequences in one step and keep nothing: encoders.

Sequences lie one behind the other, without padding. On CPUs the paged kernel attends over pages that every layer writes
anew; elsewhere, and for layers the kernel does not take, each sequence goes through torch's own attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from specserve.engine.attention.backend import AttentionMetadata, LayerCache, LayerSpec
from specserve.engine.attention.cpu_kernel import PAGE, Kernel, KernelLayer, KernelStep
from specserve.engine.attention.reference import attend_one_sequence


class SequenceAttention:
    """Implements `interface.LayerContext`; `plan` is called before each forward pass.

    `kernel` is None on GPUs and where it is not there. `ignores_order`: all tokens of a sequence see each other,
    whatever the layers say; for decoders that were trained further as encoders.
    """

    def __init__(self, kernel: Kernel | None, *, ignores_order: bool = False) -> None:
        self._kernel = kernel
        self._ignores_order = ignores_order
        self._layers: dict[LayerSpec, tuple[KernelLayer, LayerCache]] = {}
        self._num_pages = 0
        self._lengths: Sequence[int] = ()
        self._seen: Sequence[int] = ()
        self._step: KernelStep | None = None
        self._masks: dict[tuple[int, int, bool], Tensor] = {}

    @property
    def step(self) -> KernelStep:
        assert self._step is not None, "plan was not called"
        return self._step

    def plan(self, lengths: Sequence[int], seen: Sequence[int] | None = None) -> None:
        """The tokens of each sequence of the next forward pass, in order; only its first `seen` ones are seen."""
        self._lengths, self._seen = lengths, lengths if seen is None else seen
        self._masks.clear()
        if self._kernel is not None:
            metadata = pages_of(lengths, self._seen)
            self._reserve(1 + sum(-(-length // PAGE) for length in lengths))
            self._step = KernelStep(metadata)

    def layer(
        self, index: int, spec: LayerSpec, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None
    ) -> Tensor:
        if self._ignores_order:
            spec = replace(spec, is_causal=False)
        sees_by_place = spec.window is not None and self._seen != self._lengths
        if self._kernel is None or sees_by_place or KernelLayer.misfit(spec, PAGE) is not None:
            return self._attend_each(spec, query, key, value, sinks)
        layer, cache = self.bound(spec)
        layer.write_kv(self.step, key, value, cache)
        return layer.attend(self.step, query, cache, sinks)

    def bound(self, spec: LayerSpec) -> tuple[KernelLayer, LayerCache]:
        """The kernel for layers of this kind, with pages for the planned step."""
        if spec not in self._layers:
            assert self._kernel is not None, "there is no kernel"
            layer = KernelLayer(self._kernel, spec, PAGE)
            self._layers[spec] = layer, layer.allocate(self._num_pages)
        return self._layers[spec]

    def _reserve(self, num_pages: int) -> None:
        if num_pages > self._num_pages:
            self._num_pages = num_pages
            self._layers = {spec: (layer, layer.allocate(num_pages)) for spec, (layer, _) in self._layers.items()}

    def _attend_each(self, spec: LayerSpec, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None) -> Tensor:
        out = query.new_empty(query.shape[0], spec.num_heads, spec.value_head_size)
        start = 0
        for length, seen in zip(self._lengths, self._seen, strict=True):
            if spec.softcap is not None or sinks is not None:  # torch's own attention has neither
                q, k, v = (one[start : start + length] for one in (query, key, value))
                out[start : start + length] = attend_one_sequence(q, k, v, spec, sinks)
                start += length
                continue
            q = query[None, start : start + length].transpose(1, 2)
            k, v = (one[None, start : start + seen].transpose(1, 2) for one in (key, value))
            mask = self._mask(length, spec, query.device)
            mask = None if mask is None else mask[:, :seen]
            is_plain = mask is None and spec.is_causal
            attended = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=is_plain, scale=spec.scale, enable_gqa=q.shape[1] != k.shape[1]
            )
            out[start : start + length] = attended[0].transpose(0, 1)
            start += length
        return out

    def _mask(self, length: int, spec: LayerSpec, device: torch.device) -> Tensor | None:
        """[L, L] of what is seen, for windows that do not span the sequence."""
        if spec.window is None or spec.window >= length:
            return None
        found = self._masks.get((length, spec.window, spec.is_causal))
        if found is None:
            position = torch.arange(length, device=device)
            distance = position[:, None] - position[None, :]
            found = (distance.abs() < spec.window) & ((distance >= 0) if spec.is_causal else True)
            self._masks[length, spec.window, spec.is_causal] = found
        return found


def pages_of(lengths: Sequence[int], seen: Sequence[int]) -> AttentionMetadata:
    """One step in which every sequence is computed whole, in pages of its own from page 1 on.

    Its first `seen` tokens are what is seen of it, in layers without window.
    """
    sizes = torch.tensor(lengths, dtype=torch.int32)
    starts = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    torch.cumsum(sizes, 0, out=starts[1:])
    pages = (sizes + PAGE - 1) // PAGE
    first_page = 1 + torch.cumsum(pages, 0) - pages
    tables = first_page[:, None].to(torch.int32) + torch.arange(int(pages.max()), dtype=torch.int32)[None, :]
    counts = sizes.long()
    base = torch.repeat_interleave(first_page.long() * PAGE - starts[:-1].long(), counts)
    return AttentionMetadata(
        query_start=starts,
        seq_lens=torch.tensor(seen, dtype=torch.int32),
        block_tables=tables,
        slot_mapping=base + torch.arange(base.shape[0]),
        num_decodes=0,
        query_lens=list(lengths),
        seq_lens_list=list(seen),
    )
