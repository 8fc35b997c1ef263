"""Unnormalised probabilities of whole rows of logits, and draws from them without sums over the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from specserve.engine.sampling.candidates import GROUP, GroupedLogits
from specserve.engine.sampling.cpu_passes import passes_for

LOWEST_EXPONENT, SMALLEST_WEIGHT = -80.0, 2e-35
"""Tokens that are e^79.9 times less likely than the most likely one count as impossible where some are forbidden."""


class Weights(NamedTuple):
    """Of r rows of logits.

    weights     [r, V]  exp((logit - the row's largest) / temperature)
    sums        [r, G]  their sums by groups of 64
    normaliser  [r, 1]  logsumexp(logits / temperature)
    """

    weights: Tensor
    sums: Tensor
    normaliser: Tensor


class Weigher:
    """Keeps the memory that weights are written to: fresh memory costs a page fault per 4 KiB."""

    def __init__(self) -> None:
        self._scratch = torch.empty(0)

    def weigh(self, grouped: GroupedLogits, rows: Sequence[int], temperatures: Sequence[float]) -> Weights:
        """They are overwritten by the next call."""
        logits = grouped.logits
        size = len(rows) * logits.shape[1]
        if self._scratch.numel() < size or self._scratch.device != logits.device:
            self._scratch = torch.empty(size, device=logits.device)
        weights = self._scratch[:size].view(len(rows), logits.shape[1])
        index = torch.tensor(rows, device=logits.device)
        maxima = grouped.maxima[index].amax(-1, keepdim=True)
        divisors = torch.tensor(temperatures, dtype=torch.float32, device=logits.device)[:, None]
        if (passes := passes_for(logits)) is not None:
            sums = passes.weigh(logits, index, maxima[:, 0], divisors[:, 0].contiguous(), weights)
        else:
            torch.index_select(logits, 0, index, out=weights).sub_(maxima).div_(divisors)
            if grouped.has_forbidden:  # exp of very small numbers takes ten times as long
                torch.threshold_(weights.clamp_(min=LOWEST_EXPONENT).exp_(), SMALLEST_WEIGHT, 0.0)
            else:
                weights.exp_()
            sums = group_sums(weights)
        return Weights(weights, sums, sums.sum(-1, keepdim=True).log_() + maxima / divisors)


def group_sums(weights: Tensor) -> Tensor:
    """[r, V] → [r, G]: sums of groups of 64, the last of which may be shorter."""
    num_rows, vocab_size = weights.shape
    whole = vocab_size // GROUP * GROUP
    sums = weights[:, :whole].view(num_rows, whole // GROUP, GROUP).sum(-1)
    if whole < vocab_size:
        sums = torch.cat([sums, weights[:, whole:].sum(-1, keepdim=True)], -1)
    return sums


def pick_by_cumulative_weight(weights: Tensor, draws: Tensor, sums: Tensor, rows: Tensor | None = None) -> Tensor:
    """[r, d] places: the smallest whose cumulative weight exceeds draw × total.

    weights [R, V] ≥ 0, sums [R, G] as of `group_sums`, draws [r, d] in [0, 1) for the given rows [r] (None: all).
    The group first, then the cumulative sum inside it: no cumulative sum over V.
    """
    vocab_size = weights.shape[1]
    rows = torch.arange(len(weights), device=weights.device) if rows is None else rows
    sums = sums[rows]
    cumulative = sums.double().cumsum(-1)
    target = draws * cumulative[:, -1:]
    last_group = cumulative.shape[1] - 1 - (sums > 0).flip(-1).int().argmax(-1, keepdim=True)
    group = torch.minimum(torch.searchsorted(cumulative, target, right=True), last_group)
    target = target - torch.where(group > 0, cumulative.gather(1, (group - 1).clamp(min=0)), 0.0)
    places = group[..., None] * GROUP + torch.arange(GROUP, device=weights.device)
    inside = weights.take(places.clamp(max=vocab_size - 1) + rows[:, None, None] * vocab_size).double()
    inside.masked_fill_(places >= vocab_size, 0.0)
    last = GROUP - 1 - (inside > 0).flip(-1).int().argmax(-1, keepdim=True)
    place = torch.minimum(torch.searchsorted(inside.cumsum(-1), target[..., None], right=True), last)
    return places.gather(-1, place)[..., 0]
