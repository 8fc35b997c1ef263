"""From one sequence's hidden states to one vector: [T, H] → [H], summed in float32.

Source: the pooling module of sentence-transformers defines each; Muennighoff 2022 (SGPT) the weighted mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Pooler = Callable[[Tensor], Tensor]
"""Takes float32 [T, H] with T at least 1."""


def _weighted_mean(hidden: Tensor) -> Tensor:
    """Later tokens count more: the n-th n times."""
    weights = torch.arange(1, hidden.shape[0] + 1, dtype=hidden.dtype, device=hidden.device)
    return (hidden * weights[:, None]).sum(0) / weights.sum()


POOLERS: dict[str, Pooler] = {
    "cls": lambda hidden: hidden[0],
    "last": lambda hidden: hidden[-1],
    "mean": lambda hidden: hidden.mean(0),
    "max": lambda hidden: hidden.amax(0),
    "mean_sqrt_len": lambda hidden: hidden.sum(0) / hidden.shape[0] ** 0.5,
    "weighted_mean": _weighted_mean,
}


def pool(hidden: Sequence[Tensor], modes: Sequence[str]) -> Tensor:
    """Hidden states [T, H] of B sequences → [B, H * modes], the modes' vectors joined."""
    return torch.stack([torch.cat([POOLERS[mode](one) for mode in modes]) for one in (h.float() for h in hidden)])
