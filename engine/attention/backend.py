"""The Protocol of attention backends: who can serve which layer, and the four calls of a step.

Layout of the cache belongs to the backend: nobody else looks inside a `LayerCache`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One attention layer as the loaded model really calls it, found by a probing forward pass.

    `head_size` is that of queries and keys, `value_head_size` of values (they differ in MLA models).
    `window` counts visible tokens including the own one; None sees all. `softcap` bounds scores to (-c, c).
    """

    num_heads: int
    num_kv_heads: int
    head_size: int
    value_head_size: int
    dtype: torch.dtype
    scale: float
    window: int | None = None
    softcap: float | None = None
    has_sinks: bool = False
    is_causal: bool = True
    """False: tokens see those behind them too, `window` - 1 to each side if there is one."""
    cache_dtype: torch.dtype | None = None
    """What keys and values are rounded to when they are written; None keeps them as they are."""


@dataclass(slots=True)
class LayerCache:
    """Keys and values of one layer for all blocks, in the backend's own layout."""

    keys: Tensor
    values: Tensor


@dataclass(slots=True)
class AttentionMetadata:
    """One step's batch of B sequences and T flattened query tokens, sequences in row order.

    query_start   [B+1] int32   offsets of each sequence's query tokens in [0, T]
    seq_lens      [B] int32     tokens visible to the sequence's last query, itself included
    block_tables  [B, W] int32  logical to physical block, rows padded with 0
    slot_mapping  [T] int64     block_id * block_size + offset; -1 skips the token

    The first `num_decodes` sequences have exactly one query token. `query_lens` and `seq_lens_list` are the
    same numbers on the host, so that nobody has to read them back from a device.
    """

    query_start: Tensor
    seq_lens: Tensor
    block_tables: Tensor
    slot_mapping: Tensor
    num_decodes: int
    query_lens: list[int]
    seq_lens_list: list[int]

    def check(self, block_size: int) -> None:
        """Raise ValueError unless the parts agree with each other; looks at shapes and host numbers only."""
        num_seqs, num_tokens = len(self.query_lens), sum(self.query_lens)
        if not (len(self.seq_lens_list) == num_seqs and self.query_start.shape == (num_seqs + 1,)):
            raise ValueError(
                f"{num_seqs} query lengths, {len(self.seq_lens_list)} sequence lengths and query_start of "
                f"shape {tuple(self.query_start.shape)} do not describe one batch"
            )
        if self.seq_lens.shape != (num_seqs,) or self.slot_mapping.shape[0] < num_tokens:
            raise ValueError(
                f"seq_lens {tuple(self.seq_lens.shape)} must be ({num_seqs},) and slot_mapping "
                f"{tuple(self.slot_mapping.shape)} at least ({num_tokens},)"
            )
        if any(length != 1 for length in self.query_lens[: self.num_decodes]):
            raise ValueError(f"the first {self.num_decodes} sequences must have one query token: {self.query_lens}")
        if any(q > s or q < 0 for q, s in zip(self.query_lens, self.seq_lens_list, strict=True)):
            raise ValueError(f"query lengths {self.query_lens} exceed sequence lengths {self.seq_lens_list}")
        capacity = self.block_tables.shape[1] * block_size
        if self.block_tables.shape[0] != num_seqs or max(self.seq_lens_list, default=0) > capacity:
            raise ValueError(
                f"block_tables {tuple(self.block_tables.shape)} of {block_size} tokens a block are too small "
                f"for {num_seqs} sequences of up to {max(self.seq_lens_list, default=0)} tokens"
            )


class AttentionBackend(Protocol):
    """Writes keys and values into paged blocks and attends over them.

    One object per model. `plan` is called once per step and checks shapes; `write_kv` and `attend` are called
    once per layer and check nothing.
    """

    name: str
    block_size: int
    """Tokens per block; a backend is constructed for one size."""

    @classmethod
    def default_block_size(cls) -> int:
        """The block size this backend likes best."""

    @classmethod
    def refuses(cls, layers: list[LayerSpec], device: torch.device, block_size: int) -> str | None:
        """Why this backend cannot serve these layers here (missing package, head size …), or None."""

    def __init__(self, layers: list[LayerSpec], device: torch.device, block_size: int) -> None: ...

    def bytes_per_block(self) -> int:
        """Bytes one block takes over all layers."""

    def allocate(self, num_blocks: int) -> list[LayerCache]:
        """One cache per layer, in the order of `layers`."""

    def plan(self, metadata: AttentionMetadata) -> None:
        """Prepare one step; keeps a reference to `metadata` until the next call."""

    def write_kv(self, layer: int, key: Tensor, value: Tensor, cache: LayerCache) -> None:
        """Scatter this step's keys and values into the slots of the planned batch, in place.

        key [T, K, D], value [T, K, Dv]: K key-value heads, D and Dv head sizes; any strides over T and K.
        Source: Kwon et al. 2023 (PagedAttention), section 4.
        """

    def attend(self, layer: int, query: Tensor, cache: LayerCache, sinks: Tensor | None = None) -> Tensor:
        """Causal attention of query [T, H, D] over each sequence's own blocks; returns [T, H, Dv].

        `write_kv` of the same layer has run, so a token sees itself. `sinks` [H] adds one logit per head to
        the softmax's denominator only.
        """
