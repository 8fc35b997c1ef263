"""The only file that imports xformers: its paged decode kernel and its way to FlashAttention 2.

Knows no batch and no cache, only tensors. Both operators are called through `FwOp.apply`, one floor below
xformers' dispatcher: next to a CUDA 13 build of torch the library inside the published wheel does not load,
and the dispatcher then refuses every operator, although neither of these two needs that library
(docs/adr/0002-xformers.md). `apply` checks nothing; `XFormersBackend.refuses` and `plan` check what it needs.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from xformers.ops.fmha import Inputs, flash, triton_splitk
from xformers.ops.fmha.attn_bias import (
    BlockDiagonalCausalFromBottomRightMask,
    BlockDiagonalCausalLocalAttentionFromBottomRightMask,
    PagedBlockDiagonalCausalWithOffsetGappyKeysMask,
    PagedBlockDiagonalCausalWithOffsetPaddedKeysMask,
    _GappySeqInfo,
    _PaddedSeqLenInfo,
    _SeqLenInfo,
)

NUM_WARPS = 4
NUM_STAGES = 3
"""With these the compiled loop copies asynchronously; with xformers' own 2 warps and 1 stage it does not."""
MIN_TILE, MAX_TILE = 16, 64
MAX_KEY_TILE_BYTES = 32 * 1024
MAX_ROW_BYTES_OF_TALL_TILES = 256
"""Together these keep the kernel below 99 KiB of shared memory, which every GPU since the A100 has."""

Bias = Any
"""One of xformers' mask classes; the package is untyped."""


class PagedDecode(triton_splitk.FwOp):  # type: ignore[misc]
    """xformers' split-K operator with the launch configuration exactly as chosen by `get_operator`.

    For 128-wide heads xformers would ask for the GPU's capability at every launch, and overrule the choice.
    """

    @classmethod
    def get_extra_args(cls, **_: Any) -> dict[str, Any]:
        return {
            "BLOCK_M": cls.BLOCK_M,
            "BLOCK_N": cls.BLOCK_N,
            "num_warps": cls.NUM_WARPS,
            "num_stages": cls.NUM_STAGES,
        }


def tile_shape(group: int, head_size: int, itemsize: int, block_size: int) -> tuple[int, int]:
    """Query rows and keys of the kernel's tile.

    The `group` query heads of one key-value head are the rows: one tile for all of them reads the keys once.
    """
    row_bytes = head_size * itemsize
    tallest = MAX_TILE if row_bytes <= MAX_ROW_BYTES_OF_TALL_TILES else MIN_TILE
    rows = min(max(MIN_TILE, 1 << (group - 1).bit_length()), tallest)
    return rows, min(MAX_TILE, block_size, MAX_KEY_TILE_BYTES // row_bytes)


class XFormersOperators:
    """Both operators and the masks they take, in terms of plain tensors. Has no state."""

    def decode_bias(self, seq_lens: Tensor, block_tables: Tensor, block_size: int, starts: Tensor | None) -> Bias:
        """A mask that reads the given tensors at every launch, so their contents may be rewritten in place.

        seq_lens      [B] int32     first position that is not visible
        block_tables  [B, W] int32
        starts        [B+1] int32   first visible position (the last entry is not read); None: all from 0

        Numbers on the host are upper bounds. xformers' `from_seqlens` would copy to the device, which a CUDA
        graph cannot capture, and cannot be called at all for the form with starts.
        """
        batch, width = block_tables.shape
        capacity = width * block_size
        count = torch.arange(batch + 1, dtype=torch.int32, device=seq_lens.device)
        queries = _SeqLenInfo(seqstart=count, max_seqlen=1, min_seqlen=1, seqstart_py=list(range(batch + 1)))
        if starts is None:
            padded = _PaddedSeqLenInfo(
                seqstart=count * capacity,
                seqstart_py=[row * capacity for row in range(batch + 1)],
                max_seqlen=capacity,
                min_seqlen=1,
                seqlen=seq_lens,
                seqlen_py=[capacity] * batch,
                padding=capacity,
            )
            return PagedBlockDiagonalCausalWithOffsetPaddedKeysMask(
                q_seqinfo=queries, k_seqinfo=padded, block_tables=block_tables, page_size=block_size
            )
        gappy = _GappySeqInfo(
            seqstart=starts,
            seqstart_py=[0] * (batch + 1),
            max_seqlen=capacity,
            min_seqlen=1,
            seqlen=seq_lens,
            seqlen_py=[capacity] * batch,
        )
        return PagedBlockDiagonalCausalWithOffsetGappyKeysMask(
            q_seqinfo=queries, k_seqinfo=gappy, block_tables=block_tables, page_size=block_size
        )

    def paged_decode(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Bias,
        scale: float,
        num_splits: int,
        with_lse: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """One query token per sequence. query [B, H, D], keys and values [slots, K, D] → [B, H, D].

        Second result: the logarithm of each softmax's denominator, [B, H], or None without `with_lse`.
        """
        batch, num_heads, head_size = query.shape
        num_kv_heads = keys.shape[1]
        group = num_heads // num_kv_heads
        rows, columns = tile_shape(group, head_size, keys.element_size(), bias.page_size)
        operator = PagedDecode.get_operator(
            num_splits, block_m=rows, block_n=columns, num_warps=NUM_WARPS, num_stages=NUM_STAGES
        )
        inputs = Inputs(
            query.reshape(1, -1, num_kv_heads, group, head_size),
            keys[None, :, :, None].expand(-1, -1, -1, group, -1),
            values[None, :, :, None].expand(-1, -1, -1, group, -1),
            attn_bias=bias,
            scale=scale,
        )
        out, context = operator.apply(inputs, needs_gradient=with_lse)
        # The result's shape depends on the number of splits; xformers' public wrapper hides that.
        out = out.reshape(batch, num_heads, head_size)
        if not with_lse:
            return out, None
        return out, context.lse.reshape(num_heads, batch).T

    def flash_misfit(self, device: torch.device, dtype: torch.dtype, head_size: int) -> str | None:
        """Why FlashAttention 2 cannot do the prefill of such a layer, or None."""
        if device.type != "cuda":
            return f"it does not run on {device.type}"
        if flash.FLASH_VERSION == "0.0.0":
            return "this build of torch has none"
        if dtype not in flash.FwOp.SUPPORTED_DTYPES:
            return f"it does not compute in {str(dtype).removeprefix('torch.')}"
        if head_size > flash.FwOp.SUPPORTED_MAX_K:
            return f"its heads are at most {flash.FwOp.SUPPORTED_MAX_K} wide, these {head_size}"
        return None

    def prefill_bias(
        self,
        query_lens: list[int],
        kv_lens: list[int],
        query_start: Tensor,
        kv_start: Tensor,
        window: int | None,
    ) -> Bias:
        """Causal mask of chunks that end where their context ends; query_start and kv_start [B+1] int32."""
        queries = _SeqLenInfo(
            seqstart=query_start,
            seqstart_py=[0, *accumulate(query_lens)],
            max_seqlen=max(query_lens),
            min_seqlen=min(query_lens),
        )
        context = _SeqLenInfo(
            seqstart=kv_start,
            seqstart_py=[0, *accumulate(kv_lens)],
            max_seqlen=max(kv_lens),
            min_seqlen=min(kv_lens),
        )
        if window is None:
            return BlockDiagonalCausalFromBottomRightMask(q_seqinfo=queries, k_seqinfo=context)
        return BlockDiagonalCausalLocalAttentionFromBottomRightMask(
            q_seqinfo=queries, k_seqinfo=context, _window_size=window
        )

    def flash_prefill(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Bias,
        scale: float,
        with_lse: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Chunks of many sequences. query [T, H, D], keys and values [L, K, D] → [T, H, D].

        Second result: the logarithm of each softmax's denominator, [T, H], or None without `with_lse`.
        """
        num_tokens, num_heads, head_size = query.shape
        num_kv_heads = keys.shape[1]
        group = num_heads // num_kv_heads
        inputs = Inputs(
            query.reshape(1, -1, num_kv_heads, group, head_size),
            keys[None, :, :, None].expand(-1, -1, -1, group, -1),
            values[None, :, :, None].expand(-1, -1, -1, group, -1),
            attn_bias=bias,
            scale=scale,
        )
        out, context = flash.FwOp.apply(inputs, needs_gradient=with_lse)
        out = out.reshape(num_tokens, num_heads, head_size)
        if not with_lse:
            return out, None
        return out, context.lse.reshape(num_heads, num_tokens).T
