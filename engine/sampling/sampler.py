"""Chooses the next token of every row of logits.

Order of operations:
 1. Rows with NaN or without any finite logit fail alone.
 2. Logprobs are taken from the raw distribution, for rows that report them.
 3. logit_bias, allowed_token_ids, min_tokens, bad words (`logits_processors`, in this order).
 4. repetition_penalty, then presence_penalty and frequency_penalty (same table).
 5. The mask of the row's grammar. Where it and the bans before leave nothing, the bans are undone.
 6. Rows with temperature 0 take the largest logit and are done.
 7. Division by the temperature.
 8. top_k: exactly the k most likely stay.
 9. top_p: of those, renormalised, the fewest that together reach top_p stay, the most likely first.
10. min_p: of those, the ones at least min_p times as likely as the most likely stay.
11. One uniform number per row picks a token by the inverse of the cumulative distribution of what stayed.

A row's result depends on its own logits and request only: rows are grouped by need, so that one with a costly
wish does not slow the others, and the group a row falls into never depends on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specserve.engine.batch import SampledToken
from specserve.engine.params import SamplingParams
from specserve.engine.sampling.candidates import GROUP, GroupedLogits
from specserve.engine.sampling.cpu_passes import passes_for
from specserve.engine.sampling.grammar_masks import NOTHING_LEFT, StepMasks
from specserve.engine.sampling.logits_processors import edit_logits
from specserve.engine.sampling.logprobs import RawLogprobs
from specserve.engine.sampling.metadata import SamplingMetadata
from specserve.engine.sampling.nucleus import keep_nucleus
from specserve.engine.sampling.uniforms import uniforms

TOP_P_CANDIDATES = 256
"""Size of the candidate list for top_p alone; rows whose list does not reach top_p look at everything."""
LOWEST_EXPONENT, SMALLEST_WEIGHT = -80.0, 2e-35
"""Tokens that are e^79.9 times less likely than the most likely one count as impossible where some are forbidden."""
NOT_FINITE = "the model computed logits that are not finite for this request"
NOTHING_ALLOWED = "no token is left to choose: allowed_token_ids, logit_bias and min_tokens exclude all"


class Weights(NamedTuple):
    """Of r rows of logits.

    weights     [r, V]  exp((logit - the row's largest) / temperature)
    sums        [r, G]  their sums by groups of 64
    normaliser  [r, 1]  logsumexp(logits / temperature)
    """

    weights: Tensor
    sums: Tensor
    normaliser: Tensor


class Sampler:
    """`seed` keys the draws of requests that bring no seed of their own."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._scratch = torch.empty(0)

    def sample(
        self, logits: Tensor, metadata: SamplingMetadata, masks: StepMasks | None = None
    ) -> list[SampledToken | str]:
        """logits [R, V] of any floating-point type, R requests → a token each, or why there is none. The grammars of
        `masks` take in what was chosen.

        float32 logits are edited in place.
        """
        grouped = GroupedLogits(logits if logits.dtype == torch.float32 else logits.float())
        raw_maxima = grouped.row_maxima().tolist()
        failed = {row: NOT_FINITE for row, value in enumerate(raw_maxima) if not math.isfinite(value)}
        raw = self._raw_logprobs(grouped, metadata, keep=bool(metadata.edited) or masks is not None)
        if metadata.edited or masks is not None:
            for row, reason in edit(grouped, metadata, masks).items():
                failed.setdefault(row, reason)
        if failed:  # keep NaN out of what follows; these rows' tokens are not used
            rows = torch.tensor(list(failed), device=logits.device)
            grouped.logits[rows] = 0.0
            grouped.maxima[rows] = 0.0
        token_ids = self._choose(grouped, metadata)
        reports = raw.report(token_ids) if raw is not None else {}
        results: list[SampledToken | str] = [
            failed[row] if row in failed else SampledToken(token_id, reports.get(row))
            for row, token_id in enumerate(token_ids.tolist())
        ]
        if masks is not None:
            masks.advance(results)
        return results

    def choose(self, logits: Tensor, metadata: SamplingMetadata, lead: int = 0) -> tuple[Tensor, Tensor]:
        """What `sample` does for rows without edits, logprobs and grammars, with nothing that waits for a device.

        `lead` is how many tokens of its request's answer each row has that the host does not know yet. Returns token
        ids [R] int64, and [R] bool whether the row's logits were finite.
        """
        grouped = GroupedLogits(logits if logits.dtype == torch.float32 else logits.float())
        finite = grouped.row_maxima().isfinite()
        grouped.logits.masked_fill_(~finite[:, None], 0.0)
        grouped.maxima.masked_fill_(~finite[:, None], 0.0)
        return self._choose(grouped, metadata, lead), finite

    def _raw_logprobs(self, grouped: GroupedLogits, metadata: SamplingMetadata, *, keep: bool) -> RawLogprobs | None:
        rows = metadata.logprobs
        if not rows:
            return None
        normaliser = self._weights(grouped, rows, [1.0] * len(rows)).normaliser
        params = [metadata.requests[row].params for row in rows]
        return RawLogprobs(grouped, rows, params, normaliser, keep=keep)

    def _choose(self, grouped: GroupedLogits, metadata: SamplingMetadata, lead: int = 0) -> Tensor:
        """[R] int64 token ids."""
        token_ids = grouped.argmax()
        if len(metadata.greedy) == len(token_ids):
            return token_ids
        draws = uniforms(metadata.requests, self._seed, lead)
        params = [request.params for request in metadata.requests]
        for size, rows in metadata.top_k.items():
            index = torch.tensor(rows, device=token_ids.device)
            values, ids = grouped.top(index, grouped.logits.shape[1] if size is None else size)
            token_ids[index] = draw_candidates(values, ids, [params[row] for row in rows], draws[rows])
        if metadata.top_p and grouped.logits.device.type == "cpu":
            self._choose_top_p(grouped, metadata.top_p, params, draws, token_ids)
        elif metadata.top_p:  # a device sorts faster than it tells the host which rows need no sorting
            index = torch.tensor(metadata.top_p, device=token_ids.device)
            values, ids = grouped.logits[index].sort(-1, descending=True)
            chosen = [params[row] for row in metadata.top_p]
            token_ids[index] = draw_candidates(values, ids, chosen, draws[metadata.top_p])
        if metadata.plain:
            self._choose_plain(grouped, metadata.plain, params, draws, token_ids)
        return token_ids

    def _choose_top_p(
        self,
        grouped: GroupedLogits,
        rows: Sequence[int],
        params: Sequence[SamplingParams],
        draws: NDArray[np.float64],
        token_ids: Tensor,
    ) -> None:
        """A list of candidates where it holds the mass top_p of the whole vocabulary, else the vocabulary."""
        index = torch.tensor(rows, device=token_ids.device)
        weights, _, normaliser = self._weights(grouped, rows, [params[row].temperature for row in rows])
        values, ids = grouped.top(index, TOP_P_CANDIDATES)
        temperatures = _column([params[row].temperature for row in rows], values)
        mass = (values / temperatures - normaliser).double().exp().sum(-1).tolist()
        enough = [place for place, row in enumerate(rows) if mass[place] >= params[row].top_p]
        if enough:
            pick = torch.tensor(enough, device=index.device)
            chosen = [rows[place] for place in enough]
            token_ids[index[pick]] = draw_candidates(
                values[pick], ids[pick], [params[row] for row in chosen], draws[chosen], normaliser[pick]
            )
        for place in sorted(set(range(len(rows))) - set(enough)):
            row, row_weights = rows[place], weights[place]
            row_weights.div_(row_weights.sum())
            floor = params[row].min_p * row_weights.max()
            keep_nucleus(row_weights, params[row].top_p)
            row_weights.mul_(row_weights >= floor)
            draw = torch.from_numpy(draws[row : row + 1]).to(index.device)
            token_ids[row] = pick_by_cumulative_weight(row_weights[None], draw, group_sums(row_weights[None]))[0]

    def _choose_plain(
        self,
        grouped: GroupedLogits,
        rows: Sequence[int],
        params: Sequence[SamplingParams],
        draws: NDArray[np.float64],
        token_ids: Tensor,
    ) -> None:
        """The inverse cumulative distribution over the whole vocabulary, in order of ids."""
        weights, sums, _ = self._weights(grouped, rows, [params[row].temperature for row in rows])
        for place, row in enumerate(rows):
            if params[row].min_p > 0:
                weights[place].mul_(weights[place] >= params[row].min_p)
                sums[place] = group_sums(weights[place : place + 1])[0]
        draw = torch.from_numpy(draws[list(rows)]).to(weights.device)
        token_ids[torch.tensor(rows, device=weights.device)] = pick_by_cumulative_weight(weights, draw, sums)

    def _weights(self, grouped: GroupedLogits, rows: Sequence[int], temperatures: Sequence[float]) -> Weights:
        """They are overwritten by the next call: fresh memory costs a page fault per 4 KiB."""
        logits = grouped.logits
        size = len(rows) * logits.shape[1]
        if self._scratch.numel() < size or self._scratch.device != logits.device:
            self._scratch = torch.empty(size, device=logits.device)
        weights = self._scratch[:size].view(len(rows), logits.shape[1])
        index = torch.tensor(rows, device=logits.device)
        maxima = grouped.maxima[index].amax(-1, keepdim=True)
        divisors = _column(temperatures, logits)
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


def edit(grouped: GroupedLogits, metadata: SamplingMetadata, masks: StepMasks | None) -> dict[int, str]:
    """Steps 3 to 5, in place. Returns rows to which nothing is left, with the reason."""
    logits = grouped.logits
    constrained = () if masks is None else masks.rows
    banned = set(metadata.edited).intersection(constrained)
    raw = {row: logits[row].clone() for row in banned}
    edit_logits(logits, metadata.requests, metadata.edited, metadata.eos_token_ids)
    failed: dict[int, str] = {}
    if masks is not None:
        masks.apply(grouped)
        failed = masks.failures()
    grouped.has_forbidden = True
    if others := sorted(set(metadata.edited).difference(constrained)):
        grouped.refresh(torch.tensor(others, device=logits.device))
    for row, value in enumerate(grouped.row_maxima().tolist()):
        if value > NOTHING_LEFT or row in failed:  # NaN is not: it has failed before
            continue
        if masks is not None and row in banned:
            logits[row] = raw[row]
            masks.apply_row(grouped, row)
            if float(grouped.maxima[row].amax()) > NOTHING_LEFT:
                continue
        failed[row] = NOTHING_ALLOWED
    return failed


def kept_probabilities(values: Tensor, params: Sequence[SamplingParams], normaliser: Tensor | None = None) -> Tensor:
    """Probabilities of candidates after temperature, top_k, top_p and min_p: zero for what does not stay.

    values      [r, C] float32   logits, descending
    normaliser  [r, 1]           logsumexp of logits / temperature over the whole vocabulary, for rows whose
                                 candidates are not all that top_k leaves
    Returns [r, C] float64, not renormalised.
    """
    device = values.device
    scaled = values.double() / _column([p.temperature for p in params], values).double()
    places = torch.arange(values.shape[1], device=device)
    top_k = _column([p.top_k or values.shape[1] for p in params], values)
    scaled = scaled.masked_fill(places >= top_k, float("-inf"))
    total = scaled.logsumexp(-1, keepdim=True) if normaliser is None else normaliser.double()
    probabilities = (scaled - total).exp()
    before = probabilities.cumsum(-1) - probabilities
    top_p = torch.tensor([p.top_p for p in params], dtype=torch.float64, device=device)[:, None]
    min_p = torch.tensor([p.min_p for p in params], dtype=torch.float64, device=device)[:, None]
    keep = ((before < top_p) | (top_p >= 1.0)) & (probabilities >= min_p * probabilities[:, :1])
    return probabilities * keep


def draw_candidates(
    values: Tensor,
    ids: Tensor,
    params: Sequence[SamplingParams],
    draws: NDArray[np.float64],
    normaliser: Tensor | None = None,
) -> Tensor:
    """[r] token ids, one per row of candidates; arguments as in `kept_probabilities`, draws [r] in [0, 1)."""
    weights = kept_probabilities(values, params, normaliser)
    cumulative = weights.cumsum(-1)
    target = torch.from_numpy(draws).to(values.device)[:, None] * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, target, right=True)
    last = (weights > 0).sum(-1, keepdim=True) - 1  # the kept ones come first
    return ids.gather(1, torch.minimum(place, last))[:, 0]


def group_sums(weights: Tensor) -> Tensor:
    """[r, V] → [r, G]: sums of groups of 64, the last of which may be shorter."""
    num_rows, vocab_size = weights.shape
    whole = vocab_size // GROUP * GROUP
    sums = weights[:, :whole].view(num_rows, whole // GROUP, GROUP).sum(-1)
    if whole < vocab_size:
        sums = torch.cat([sums, weights[:, whole:].sum(-1, keepdim=True)], -1)
    return sums


def pick_by_cumulative_weight(weights: Tensor, draws: Tensor, sums: Tensor) -> Tensor:
    """[r] places: the smallest whose cumulative weight exceeds draw × total.

    weights [r, V] ≥ 0, draws [r] in [0, 1), sums [r, G] as of `group_sums`.
    The group first, then the cumulative sum inside it: no cumulative sum over V.
    """
    vocab_size = weights.shape[1]
    cumulative = sums.double().cumsum(-1)
    target = draws[:, None] * cumulative[:, -1:]
    last_group = cumulative.shape[1] - 1 - (sums > 0).flip(-1).int().argmax(-1, keepdim=True)
    group = torch.minimum(torch.searchsorted(cumulative, target, right=True), last_group)
    target = target - torch.where(group > 0, cumulative.gather(1, (group - 1).clamp(min=0)), 0.0)
    places = group * GROUP + torch.arange(GROUP, device=weights.device)
    inside = weights.gather(1, places.clamp(max=vocab_size - 1)).double()
    inside.masked_fill_(places >= vocab_size, 0.0)
    last = GROUP - 1 - (inside > 0).flip(-1).int().argmax(-1, keepdim=True)
    place = torch.minimum(torch.searchsorted(inside.cumsum(-1), target, right=True), last)
    return places.gather(1, place)[:, 0]


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    """[r, 1] float32 beside `like`."""
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]
