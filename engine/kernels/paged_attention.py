"""Attention over paged keys and values with plain pointers: decodes, chunks of prompts, windows, sinks, soft-capping.

One kernel for all of them: a program computes a tile of query rows of one sequence and one key-value head over one
part of the context. Batch size, lengths and table width are run-time values, so a new batch compiles nothing.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2_E = 1.4426950408889634
NO_WINDOW = 1 << 30
MIN_ROWS = 16
"""Of a tile: the tensor cores multiply at least so many."""
MAX_ROWS, MAX_KEYS = 64, 64
MAX_ROW_TILE_BYTES, MAX_KEY_TILE_BYTES = 32 * 1024, 16 * 1024
"""Together they keep the kernel below 99 KiB of shared memory, which every GPU since the A100 has."""
MERGED_BY_A_WARP, MAX_MERGING_WARPS = 16, 8
"""Parts of a 128-wide head that a warp's registers hold; 64 by one warp would be spilled."""
NUM_WARPS, NUM_STAGES = 4, 3
"""With these the compiled loop copies asynchronously; fewer stages lose that."""
WIDE_HEAD, WARPS_OF_WIDE_HEADS = 512, 8
"""What 4 warps keep of such a head does not fit their registers."""


@triton.jit
def _attend(
    query,
    keys,
    values,
    out,
    lse,
    sinks,
    tile_sequence,
    tile_first,
    query_start,
    seq_lens,
    block_tables,
    scale,
    softcap,
    window,
    query_token_stride,
    query_head_stride,
    slot_stride,
    head_stride,
    value_slot_stride,
    value_head_stride,
    table_stride,
    out_token_stride,
    out_head_stride,
    out_split_stride,
    num_tokens,
    GROUP: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
    VALUE_BLOCK: tl.constexpr,
    PAGE: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    CAPS: tl.constexpr,
    SINKS: tl.constexpr,
    SPLITS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    tile, kv_head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    sequence = tl.load(tile_sequence + tile)
    first_token = tl.load(tile_first + tile)
    start = tl.load(query_start + sequence)
    query_len = tl.load(query_start + sequence + 1) - start
    seq_len = tl.load(seq_lens + sequence)

    # Rows of the tile: the group's heads of one token after the other.
    row = tl.arange(0, ROWS)
    token = first_token + row // GROUP
    head = kv_head * GROUP + row % GROUP
    is_row = (token < query_len) & (row < ROWS // GROUP * GROUP)
    position = seq_len - query_len + token
    dim = tl.arange(0, HEAD_BLOCK)
    at_query = (start + token).to(tl.int64) * query_token_stride + head * query_head_stride
    q = tl.load(query + at_query[:, None] + dim[None, :], mask=is_row[:, None] & (dim < HEAD_SIZE)[None, :], other=0.0)

    # The context any row of the tile sees, cut evenly into parts of whole steps.
    last_token = tl.minimum(first_token + ROWS // GROUP, query_len) - 1
    end = seq_len - query_len + last_token + 1
    begin = tl.maximum(seq_len - query_len + first_token + 1 - window, 0)
    steps = tl.cdiv(tl.cdiv(end - begin, KEYS), SPLITS)
    begin += part * steps * KEYS
    end = tl.minimum(end, begin + steps * KEYS)

    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    gathered = tl.zeros([ROWS, VALUE_BLOCK], tl.float32)
    value_dim = tl.arange(0, VALUE_BLOCK)
    table = block_tables + sequence.to(tl.int64) * table_stride
    for at in range(begin, end, KEYS):
        key_position = at + tl.arange(0, KEYS)
        is_key = key_position < end
        block = tl.load(table + key_position // PAGE, mask=is_key, other=0)
        slot = block.to(tl.int64) * PAGE + key_position % PAGE
        k = tl.load(
            keys + slot[None, :] * slot_stride + kv_head * head_stride + dim[:, None],
            mask=is_key[None, :] & (dim < HEAD_SIZE)[:, None],
            other=0.0,
        ).to(q.dtype)
        scores = tl.dot(q, k, input_precision=PRECISION) * scale
        if CAPS:
            scores = softcap * (1.0 - 2.0 / (tl.exp(scores * (2.0 / softcap)) + 1.0))
        visible = (key_position[None, :] <= position[:, None]) & (key_position[None, :] > position[:, None] - window)
        scores = tl.where(visible & is_key[None, :], scores * 1.4426950408889634, float("-inf"))
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        # A row that has seen nothing yet must not compute inf - inf.
        base = tl.where(new_largest == float("-inf"), 0.0, new_largest)
        shrink = tl.exp2(largest - base)
        weights = tl.exp2(scores - base[:, None])
        total = total * shrink + tl.sum(weights, 1)
        v = tl.load(
            values + slot[:, None] * value_slot_stride + kv_head * value_head_stride + value_dim[None, :],
            mask=is_key[:, None] & (value_dim < VALUE_SIZE)[None, :],
            other=0.0,
        ).to(q.dtype)
        gathered = gathered * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        largest = new_largest

    if SINKS and SPLITS == 1:
        sink = tl.load(sinks + head, mask=is_row, other=0.0).to(tl.float32) * 1.4426950408889634
        new_largest = tl.maximum(largest, sink)
        shrink = tl.exp2(largest - new_largest)
        total = total * shrink + tl.exp2(sink - new_largest)
        gathered = gathered * shrink[:, None]
        largest = new_largest
    divisor = tl.where(total > 0, total, 1.0)
    at_out = (start + token).to(tl.int64) * out_token_stride + head * out_head_stride + part * out_split_stride
    kept = is_row[:, None] & (value_dim < VALUE_SIZE)[None, :]
    tl.store(out + at_out[:, None] + value_dim[None, :], gathered / divisor[:, None], mask=kept)
    if SPLITS > 1:
        # lse is [splits, T, H], in units of log 2.
        num_heads = tl.num_programs(1) * GROUP
        at_lse = (part * num_tokens + start + token).to(tl.int64) * num_heads + head
        tl.store(lse + at_lse, tl.where(total > 0, largest + tl.log2(divisor), float("-inf")), mask=is_row)


@triton.jit
def _merge(
    parts,
    lse,
    sinks,
    out,
    parts_token_stride,
    parts_head_stride,
    parts_split_stride,
    out_token_stride,
    out_head_stride,
    num_tokens,
    SPLITS: tl.constexpr,
    SPLIT_BLOCK: tl.constexpr,
    VALUE_SIZE: tl.constexpr,
    VALUE_BLOCK: tl.constexpr,
    SINKS: tl.constexpr,
):
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    num_heads = tl.num_programs(1)
    part = tl.arange(0, SPLIT_BLOCK)
    is_part = part < SPLITS
    logs = tl.load(
        lse + (part * num_tokens + token) * num_heads + head,
        mask=is_part,
        other=float("-inf"),
    )
    largest = tl.max(logs, 0)
    if SINKS:
        sink = tl.load(sinks + head).to(tl.float32) * 1.4426950408889634
        largest = tl.maximum(largest, sink)
    base = tl.where(largest == float("-inf"), 0.0, largest)
    weights = tl.exp2(logs - base)
    total = tl.sum(weights, 0)
    if SINKS:
        total += tl.exp2(sink - base)
    dim = tl.arange(0, VALUE_BLOCK)
    at = token * parts_token_stride + head * parts_head_stride + part * parts_split_stride
    pieces = tl.load(parts + at[:, None] + dim[None, :], mask=is_part[:, None] & (dim < VALUE_SIZE)[None, :], other=0.0)
    merged = tl.sum(pieces * weights[:, None], 0) / tl.where(total > 0, total, 1.0)
    tl.store(out + token * out_token_stride + head * out_head_stride + dim, merged, mask=dim < VALUE_SIZE)


def rows_of_tile(group: int, head_size: int, itemsize: int, *, decodes: bool) -> int:
    """Query rows a program computes: the heads of one token for a decode, else those of many tokens.

    Raises ValueError where the heads of one token are too many for a program.
    """
    needed: int = max(MIN_ROWS, triton.next_power_of_2(group))
    most: int = MAX_ROW_TILE_BYTES // (triton.next_power_of_2(head_size) * itemsize)
    if needed > most:
        raise ValueError(f"{group} heads of {head_size} to one key-value head are more than a program holds, {most}")
    return needed if decodes else max(needed, min(MAX_ROWS, most))


def keys_of_tile(head_size: int, itemsize: int) -> int:
    """Keys a program looks at together."""
    row_bytes = triton.next_power_of_2(head_size) * itemsize
    keys: int = min(MAX_KEYS, max(MIN_ROWS, MAX_KEY_TILE_BYTES // row_bytes))
    return keys


def paged_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    tile_sequence: Tensor,
    tile_first: Tensor,
    query_start: Tensor,
    seq_lens: Tensor,
    block_tables: Tensor,
    *,
    page: int,
    rows: int,
    scale: float,
    splits: int = 1,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Causal attention of the chunks at the end of sequences.

    query          [T, H, D]          stride 1 inside a head; tokens no tile covers are left as they are
    keys, values   [slots, K, D], [slots, K, Dv]   of the query's type, or float8_e4m3fn, which is widened to it
    tile_sequence  [N] int32          row of `seq_lens` and `block_tables` each tile belongs to
    tile_first     [N] int32          the tile's first token, counted in its sequence's chunk; it has rows // (H / K)
    query_start    [B + 1] int32      offsets of the sequences' chunks in T
    seq_lens       [B] int32          tokens up to the chunk's end
    block_tables   [B, W] int32
    sinks          [H]                one logit per head for the denominator only

    Returns [T, H, Dv] of the query's type. `splits` parts of each context are computed by programs of their own.
    Source: Dao 2023 (FlashAttention-2), section 3; Kwon et al. 2023 (PagedAttention), section 4.3.
    """
    num_tokens, num_heads, head_size = query.shape
    num_kv_heads, value_size = keys.shape[1], values.shape[2]
    group = num_heads // num_kv_heads
    out = torch.empty(num_tokens, num_heads, value_size, dtype=query.dtype, device=query.device)
    parts, lse = out, out
    if splits > 1:
        parts = torch.empty(num_tokens, num_heads, splits, value_size, dtype=torch.float32, device=query.device)
        lse = torch.empty(splits, num_tokens, num_heads, dtype=torch.float32, device=query.device)
    value_block = max(16, triton.next_power_of_2(value_size))
    _attend[(tile_sequence.shape[0], num_kv_heads, splits)](
        query,
        keys,
        values,
        parts,
        lse,
        sinks,
        tile_sequence,
        tile_first,
        query_start,
        seq_lens,
        block_tables,
        scale,
        softcap or 1.0,
        window or NO_WINDOW,
        query.stride(0),
        query.stride(1),
        keys.stride(0),
        keys.stride(1),
        values.stride(0),
        values.stride(1),
        block_tables.stride(0),
        parts.stride(0),
        parts.stride(1),
        parts.stride(2) if splits > 1 else 0,
        num_tokens,
        GROUP=group,
        HEAD_SIZE=head_size,
        VALUE_SIZE=value_size,
        HEAD_BLOCK=max(16, triton.next_power_of_2(head_size)),
        VALUE_BLOCK=value_block,
        PAGE=page,
        ROWS=rows,
        KEYS=keys_of_tile(max(head_size, value_size), query.element_size()),
        CAPS=softcap is not None,
        SINKS=sinks is not None,
        SPLITS=splits,
        PRECISION="ieee" if query.dtype == torch.float32 else "tf32",
        num_warps=WARPS_OF_WIDE_HEADS if max(head_size, value_size) > WIDE_HEAD // 2 else NUM_WARPS,
        num_stages=NUM_STAGES,
    )
    if splits > 1:
        _merge[(num_tokens, num_heads)](
            parts,
            lse,
            sinks,
            out,
            parts.stride(0),
            parts.stride(1),
            parts.stride(2),
            out.stride(0),
            out.stride(1),
            num_tokens,
            SPLITS=splits,
            SPLIT_BLOCK=triton.next_power_of_2(splits),
            VALUE_SIZE=value_size,
            VALUE_BLOCK=value_block,
            SINKS=sinks is not None,
            num_warps=min(max(splits // MERGED_BY_A_WARP, 1), MAX_MERGING_WARPS),
        )
    return out
