"""What FlashAttention 2 is documented to compute from cumulative lengths, for machines that have none.

Takes the arguments in the order in which xformers passes them to its `flash_fwd` operator.
"""

from __future__ import annotations

import torch
from torch import Tensor


def flash_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    seqused_k: Tensor | None,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout: float,
    softmax_scale: float,
    is_causal: bool,
    *,
    window_left: int,
    window_right: int,
    return_softmax: bool,
    block_tables: Tensor | None,
) -> tuple[Tensor, Tensor, None]:
    """query [T, H, D], key and value [L, K, D] → [T, H, D] and log-sum-exp [H, T].

    Causal means bottom-right aligned; `window_left` counts visible tokens before the own one, -1 for all.
    Source: the README of github.com/Dao-AILab/flash-attention, "flash_attn_varlen_func".
    """
    assert seqused_k is None
    assert block_tables is None
    assert dropout == 0.0
    assert is_causal
    assert window_right == -1
    assert not return_softmax
    for tensor in (query, key, value):
        assert tensor.ndim == 3
        assert tensor.stride(-1) == 1
        assert tensor.shape[-1] % 8 == 0
        assert tensor.shape[-1] == query.shape[-1]
    for cumulative, total, longest in (
        (cu_seqlens_q, query, max_seqlen_q),
        (cu_seqlens_k, key, max_seqlen_k),
    ):
        assert cumulative.dtype == torch.int32
        assert int(cumulative[-1]) == total.shape[0]
        assert int(cumulative.diff().max()) == longest
    group = query.shape[1] // key.shape[1]
    outputs, denominators = [], []
    for row in range(len(cu_seqlens_q) - 1):
        q = query[cu_seqlens_q[row] : cu_seqlens_q[row + 1]].float()
        k = key[cu_seqlens_k[row] : cu_seqlens_k[row + 1]].float().repeat_interleave(group, 1)
        v = value[cu_seqlens_k[row] : cu_seqlens_k[row + 1]].float().repeat_interleave(group, 1)
        scores = torch.einsum("qhd,khd->hqk", q, k) * softmax_scale
        ahead = torch.arange(len(k)) - (torch.arange(len(q))[:, None] + len(k) - len(q))
        visible = ahead <= 0
        if window_left >= 0:
            visible &= ahead >= -window_left
        scores = scores.masked_fill(~visible, float("-inf"))
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v))
        denominators.append(scores.logsumexp(-1))
    return torch.cat(outputs).to(query.dtype), torch.cat(denominators, 1), None
