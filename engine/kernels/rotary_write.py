"""Between the projections and attention, in one pass: head norms, rotation, and the KV cache's new slots."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from specserve.engine.kernels.rms_norm import rms_norm_torch


@triton.jit
def _float8(x):
    """Beyond the largest 8-bit float there is only that; NaN stays NaN."""
    wide = x.to(tl.float32)
    return tl.where(wide > 448.0, 448.0, tl.where(wide < -448.0, -448.0, wide)).to(tl.float8e4nv)


@triton.jit
def _rotary_write(
    qkv,
    cos,
    sin,
    slots,
    key_cache,
    value_cache,
    query_norm,
    key_norm,
    qkv_stride,
    cos_stride,
    cache_slot_stride,
    cache_head_stride,
    epsilon,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
    NORMS: tl.constexpr,
    ROUNDS: tl.constexpr,
):
    """One program per token and head of the queries, keys and values, which lie behind each other in a row of qkv."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    place = tl.arange(0, BLOCK)
    inside = place < HALF
    source = qkv + token * qkv_stride + head * (2 * HALF)
    first = tl.load(source + place, mask=inside, other=0.0)
    second = tl.load(source + HALF + place, mask=inside, other=0.0)
    slot = tl.load(slots + token)
    is_query = head < NUM_HEADS
    is_value = head >= NUM_HEADS + NUM_KV_HEADS
    if not is_value:
        if NORMS:
            low, high = first.to(tl.float32), second.to(tl.float32)
            scale = 1.0 / tl.sqrt_rn((tl.sum(low * low, 0) + tl.sum(high * high, 0)) / (2 * HALF) + epsilon)
            norm = query_norm
            if not is_query:
                norm = key_norm
            first = (low * scale).to(first.dtype) * tl.load(norm + place, mask=inside, other=0.0)
            second = (high * scale).to(second.dtype) * tl.load(norm + HALF + place, mask=inside, other=0.0)
        # Both halves of a row of cos are the same, so one is read. Each product is rounded, as torch rounds it.
        turn = tl.load(cos + token * cos_stride + place, mask=inside, other=0.0)
        across = tl.load(sin + token * cos_stride + place, mask=inside, other=0.0)
        low = first * turn - second * across
        high = second * turn + first * across
        first, second = low.to(first.dtype), high.to(second.dtype)
    if not is_value:
        tl.store(source + place, first, mask=inside)
        tl.store(source + HALF + place, second, mask=inside)
    if (not is_query) & (slot >= 0):
        cache = key_cache
        kv_head = head - NUM_HEADS
        if is_value:
            cache = value_cache
            kv_head = head - NUM_HEADS - NUM_KV_HEADS
        target = cache + slot.to(tl.int64) * cache_slot_stride + kv_head * cache_head_stride
        if ROUNDS:  # to 8-bit floats
            tl.store(target + place, _float8(first), mask=inside)
            tl.store(target + HALF + place, _float8(second), mask=inside)
        else:
            tl.store(target + place, first, mask=inside)
            tl.store(target + HALF + place, second, mask=inside)


def rotary_write(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    slots: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    query_norm: Tensor | None = None,
    key_norm: Tensor | None = None,
    epsilon: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn queries and keys by their positions; put keys and values into their slots.

    qkv                  [T, (H + 2 K) D]   rows as the joined projection gives them; queries and keys turn in place
    cos, sin             [T, D]             of each token's position, two equal halves
    slots                [T] int64          -1 skips the token
    key_cache, value_cache  [slots, K, at least D]  of the type of qkv or float8_e4m3fn
    query_norm, key_norm [D]                weights of RMS norms of the heads, before the turn, or None

    Returns queries [T, H, D], keys and values [T, K, D], views of `qkv`. D is even.
    Source: Su et al. 2021 (RoFormer), in the form that pairs an entry with the one half a head away.
    """
    num_tokens, head_size = cos.shape
    num_kv_heads = key_cache.shape[1]
    num_heads = qkv.shape[1] // head_size - 2 * num_kv_heads
    if num_tokens:
        half = head_size // 2
        _rotary_write[(num_tokens, num_heads + 2 * num_kv_heads)](
            qkv,
            cos,
            sin,
            slots,
            key_cache,
            value_cache,
            query_norm,
            key_norm,
            qkv.stride(0),
            cos.stride(0),
            key_cache.stride(0),
            key_cache.stride(1),
            epsilon,
            NUM_HEADS=num_heads,
            NUM_KV_HEADS=num_kv_heads,
            HALF=half,
            BLOCK=triton.next_power_of_2(half),
            NORMS=query_norm is not None,
            ROUNDS=key_cache.dtype == torch.float8_e4m3fn,
            num_warps=1,
        )
    return _split(qkv, num_kv_heads, head_size)


def rotary_write_torch(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    slots: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    query_norm: Tensor | None = None,
    key_norm: Tensor | None = None,
    epsilon: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    head_size = cos.shape[1]
    query, key, value = _split(qkv, key_cache.shape[1], head_size)
    if query_norm is not None and key_norm is not None:
        query.copy_(rms_norm_torch(query, query_norm, epsilon))
        key.copy_(rms_norm_torch(key, key_norm, epsilon))
    query.copy_(_turned(query, cos, sin))
    key.copy_(_turned(key, cos, sin))
    written = slots >= 0
    for cache, rows in ((key_cache, key), (value_cache, value)):
        if cache.dtype == torch.float8_e4m3fn:
            rows = rows.clamp(-448.0, 448.0).to(cache.dtype)
        cache[slots[written], :, :head_size] = rows[written]
    return query, key, value


def _split(qkv: Tensor, num_kv_heads: int, head_size: int) -> tuple[Tensor, Tensor, Tensor]:
    heads = qkv.view(qkv.shape[0], -1, head_size)
    return heads[:, : -2 * num_kv_heads], heads[:, -2 * num_kv_heads : -num_kv_heads], heads[:, -num_kv_heads:]


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, dim=-1)
    return x * cos[:, None] + torch.cat([-high, low], dim=-1) * sin[:, None]
