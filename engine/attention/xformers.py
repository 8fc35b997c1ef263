"""The only file that imports xformers: its paged decode kernel and its way to FlashAttention 2.

Knows no batch and no cache, only tensors. Both operators are called through `FwOp.apply`, one floor below
xformers' dispatcher: with a CUDA 13 build of torch the library inside the published wheel does not load, and then
the dispatcher refuses every operator, although neither of these two needs that library (docs/adr/0002-xformers.md).
`apply` checks nothing; what it needs is checked by `XFormersBackend.refuses` and `plan`.
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

MAX_TILE = 64
NUM_WARPS = 4
NUM_STAGES = 3
"""With these the compiled loop copies asynchronously; with xformers' own 2 warps and 1 stage it does not."""
PIPELINE_BYTES = 64 * 128 * 2
"""Up to this size of a tile of keys, three stages fit into the shared memory of every GPU since the A100."""

Bias = Any
"""One of xformers' mask classes; the package is untyped."""


class PagedDecode(triton_splitk.FwOp):  # type: ignore[misc]
    """xformers' split-K operator with the launch configuration chosen by us.

    xformers asks the driver for the GPU's capability at every launch of a 128-wide head; this does not.
    """

    @classmethod
    def get_extra_args(cls, *, M: int, **_: Any) -> dict[str, Any]:  # noqa: N803 (xformers' own name)
        """M query rows share one key-value head: one tile of rows for all of them reads the keys once."""
        return {
            "BLOCK_M": min(max(16, 1 << (M - 1).bit_length()), MAX_TILE),
            "BLOCK_N": cls.BLOCK_N,
            "num_warps": cls.NUM_WARPS,
            "num_stages": cls.NUM_STAGES,
        }


def num_stages(tile: int, head_size: int, itemsize: int) -> int:
    """Depth of the kernel's load pipeline for tiles of `tile` keys; wide heads must do with less memory."""
    return NUM_STAGES if tile * head_size * itemsize <= PIPELINE_BYTES else 1


class XFormersOperators:
    """Both operators and the masks they take, in terms of plain tensors. Has no state."""

    def decode_bias(
        self, seq_lens: Tensor, block_tables: Tensor, block_size: int, starts: Tensor | None
    ) -> Bias:
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
        tile = min(MAX_TILE, bias.page_size)
        operator = PagedDecode.get_operator(
            num_splits,
            block_n=tile,
            num_warps=NUM_WARPS,
            num_stages=num_stages(tile, head_size, keys.element_size()),
        )
        inputs = Inputs(
            query.unflatten(1, (num_kv_heads, group))[None],
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
            query.unflatten(1, (num_kv_heads, group))[None],
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
