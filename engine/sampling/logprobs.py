"""Log-probabilities under the raw distribution: before bias, penalties and temperature."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specserve.engine.api import TokenLogprob, TokenLogprobs
from specserve.engine.batch import PackedLogprobs
from specserve.engine.params import SamplingParams
from specserve.engine.sampling.candidates import GroupedLogits
from specserve.engine.sampling.weights import group_sums

SLICE_ROWS = 64
"""Rows of a prompt that are worked on at once: 39 MB of float32 for a vocabulary of 152 000."""


class RawLogprobs:
    """Taken from the raw logits before any edit; asked again once tokens are chosen."""

    def __init__(
        self,
        grouped: GroupedLogits,
        rows: Sequence[int],
        params: Sequence[SamplingParams],
        normaliser: Tensor,
        keep: bool,
    ) -> None:
        """`params` say what is wanted for each of `rows`, whose logsumexp is `normaliser` [r, 1].

        `keep` makes a copy of the rows: the logits are about to be edited.
        """
        index = torch.tensor(rows, device=grouped.logits.device)
        self._rows, self._normaliser = list(rows), normaliser
        self._num_top = [0 if p.logprob_token_ids else p.logprobs or 0 for p in params]
        most = max(self._num_top)
        self._top: tuple[Tensor, Tensor] | None = grouped.top(index, most) if most else None
        self._raw = GroupedLogits(grouped.logits[index]) if keep else grouped
        self._index = torch.arange(len(rows), device=index.device) if keep else index
        self._named = {
            place: named_logprobs(grouped.logits[row], p.logprob_token_ids, float(normaliser[place]))
            for place, (row, p) in enumerate(zip(rows, params, strict=True))
            if p.logprob_token_ids
        }

    def report(self, token_ids: Tensor) -> dict[int, TokenLogprobs]:
        """By row, for the tokens [R] chosen in all rows. Ranks count from 1; equals share the better rank."""
        chosen = token_ids[torch.tensor(self._rows, device=token_ids.device)]
        values = self._raw.logits[self._index, chosen][:, None]
        ranks = (self._raw.count_above(self._index, values) + 1).tolist()
        logprobs = (values - self._normaliser)[:, 0].tolist()
        ids = chosen.tolist()
        tops = self._top_lists()
        return {
            row: TokenLogprobs(TokenLogprob(token_id, logprob, rank), self._named.get(place, top[:count]))
            for place, (row, token_id, logprob, rank, top, count) in enumerate(
                zip(self._rows, ids, logprobs, ranks, tops, self._num_top, strict=True)
            )
        }

    def _top_lists(self) -> list[tuple[TokenLogprob, ...]]:
        if self._top is None:
            return [()] * len(self._rows)
        values, ids = self._top
        logprobs = (values - self._normaliser).tolist()
        ranks = range(1, ids.shape[1] + 1)
        return [tuple(map(TokenLogprob, *row, ranks)) for row in zip(ids.tolist(), logprobs, strict=True)]


def named_logprobs(logits: Tensor, token_ids: Sequence[int], normaliser: float) -> tuple[TokenLogprob, ...]:
    """Of these tokens, in this order, under one row of logits [V]; ids without a logit have no probability.

    All ranks come from one pass over the row: each logit falls between two of the sorted values asked for.
    """
    known = [token_id for token_id in token_ids if token_id < len(logits)]
    values = logits[torch.tensor(known, dtype=torch.long, device=logits.device)]
    limits, order = values.sort()
    num_below = torch.searchsorted(limits, logits)  # how many of the limits each logit exceeds
    above = torch.bincount(num_below, minlength=len(known) + 1).flip(0).cumsum(0).flip(0)[1:]
    ranks = torch.empty_like(order).index_put_((order,), above + 1)
    found = dict(zip(known, zip((values - normaliser).tolist(), ranks.tolist(), strict=True), strict=True))
    return tuple(TokenLogprob(id_, *found.get(id_, (float("-inf"), len(logits)))) for id_ in token_ids)


def logsumexp(logits: Tensor) -> Tensor:
    """[P, V] → [P, 1]. By groups, because torch shares the whole sum of a single long row out among threads, and adds
    up otherwise than for several rows."""
    maxima = logits.amax(-1, keepdim=True)
    return group_sums((logits - maxima).exp_()).sum(-1, keepdim=True).log_() + maxima


def prompt_logprobs(logits: Tensor, token_ids: Tensor, num_top: int) -> PackedLogprobs | None:
    """Logprobs of the tokens [P] under the rows that precede them, with `num_top` alternatives each.

    logits [P, V] of any floating-point type; only SLICE_ROWS rows at a time are held as float32.
    Returns None when a logit is NaN or nothing is possible somewhere.
    """
    ids, logprobs, ranks = [], [], []
    for rows, targets in zip(torch.split(logits, SLICE_ROWS), torch.split(token_ids, SLICE_ROWS), strict=True):
        grouped = GroupedLogits(rows.float())
        if not bool(grouped.row_maxima().isfinite().all()):
            return None
        targets = targets[:, None]
        values = grouped.logits.gather(1, targets)
        top_values, top_ids = grouped.top(None, num_top) if num_top else (values[:, :0], targets[:, :0])
        ranks.append((grouped.logits > values).sum(-1) + 1)  # a prompt's tokens may be unlikely: any group can matter
        ids.append(torch.cat([targets, top_ids], 1))
        normaliser = logsumexp(grouped.logits)
        logprobs.append(torch.cat([values, top_values], 1) - normaliser)
    return PackedLogprobs(
        num_top=ids[0].shape[1] - 1,  # a vocabulary may be smaller than what was asked for
        token_ids=torch.cat(ids).to(torch.int32).cpu().numpy().tobytes(),
        logprobs=torch.cat(logprobs).cpu().numpy().tobytes(),
        ranks=torch.cat(ranks).to(torch.int32).cpu().numpy().tobytes(),
    )
