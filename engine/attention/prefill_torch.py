"""Prefill in plain torch, for what has no fused prefill: float32, very wide heads, devices without a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

PREFILL_ROWS = 256
"""Query tokens per piece, which bounds the score matrix."""


def torch_prefill(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    query_lens: list[int],
    kv_lens: list[int],
    scale: float,
    window: int | None,
) -> tuple[Tensor, Tensor]:
    """Causal attention of chunks that end where their context ends, in float32.

    query [T, H, D], keys [L, K, D], values [L, K, Dv], sequences one after the other → [T, H, Dv] and the
    logarithm of each softmax's denominator, float32 [T, H].
    """
    num_tokens, num_heads, _ = query.shape
    num_kv_heads = keys.shape[1]
    out = query.new_empty(num_tokens, num_heads, values.shape[2])
    lse = query.new_empty(num_tokens, num_heads, dtype=torch.float32)
    at, context = 0, 0
    for query_len, kv_len in zip(query_lens, kv_lens, strict=True):
        k = keys[context : context + kv_len].float()
        v = values[context : context + kv_len].float()
        at_key = torch.arange(kv_len, device=query.device)
        for first in range(0, query_len, PREFILL_ROWS):
            rows = min(PREFILL_ROWS, query_len - first)
            piece = slice(at + first, at + first + rows)
            q = query[piece].float().reshape(rows, num_kv_heads, num_heads // num_kv_heads, -1)
            scores = torch.einsum("qgrd,kgd->qgrk", q, k) * scale
            position = kv_len - query_len + first + torch.arange(rows, device=query.device)
            hidden = at_key > position[:, None]
            if window is not None:
                hidden |= at_key <= position[:, None] - window
            scores = scores.masked_fill(hidden[:, None, None], float("-inf"))
            lse[piece] = scores.logsumexp(-1).flatten(1)
            out[piece] = torch.einsum("qgrk,kgd->qgrd", scores.softmax(-1), v).flatten(1, 2).to(out.dtype)
        at, context = at + query_len, context + kv_len
    return out, lse
