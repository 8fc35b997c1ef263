"""Chooses the next token of every row of logits.

Order of operations:
 1. Rows with NaN or without any finite logit fail alone.
 2. Logprobs are taken from the raw distribution, for rows that report them.
 3. logit_bias, allowed_token_ids, min_tokens, bad words (`logits_processors`, in this order).
 4. repetition_penalty, then presence_penalty and frequency_penalty; the end of thought, where it is due (same table).
 5. What the row's grammar allows stays (`constrained_rows`). Where it and the bans before leave nothing, the bans are
    undone.
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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specserve.engine.batch import SampledToken
from specserve.engine.params import SamplingParams
from specserve.engine.sampling.candidate_draw import column, draw_candidates
from specserve.engine.sampling.candidates import GroupedLogits, highest
from specserve.engine.sampling.constrained_rows import NOTHING_ALLOWED, NOTHING_LEFT, ConstrainedRows
from specserve.engine.sampling.grammar_masks import StepMasks
from specserve.engine.sampling.logits_processors import edit_logits
from specserve.engine.sampling.logprobs import RawLogprobs
from specserve.engine.sampling.metadata import TOP_P_CANDIDATES, SamplingMetadata
from specserve.engine.sampling.nucleus import keep_nucleus
from specserve.engine.sampling.uniforms import uniforms
from specserve.engine.sampling.weights import Weigher, Weights, group_sums, pick_by_cumulative_weight

NOT_FINITE = "the model computed logits that are not finite for this request"


class Sampler:
    """`seed` keys the draws of requests that bring no seed of their own."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._weigher = Weigher()

    def sample(
        self, logits: Tensor, metadata: SamplingMetadata, masks: StepMasks | None = None
    ) -> list[SampledToken | str]:
        """logits [R, V] of any floating-point type, R requests → a token each, or why there is none. The grammars of
        `masks` take in what was chosen.

        float32 logits are edited in place.
        """
        if metadata.only_highest and masks is None:
            return [
                SampledToken(token_id) if math.isfinite(value) else NOT_FINITE
                for value, token_id in zip(*highest(logits), strict=True)
            ]
        grouped = GroupedLogits(logits if logits.dtype == torch.float32 else logits.float())
        raw_maxima = grouped.row_maxima().tolist()
        failed = {row: NOT_FINITE for row, value in enumerate(raw_maxima) if not math.isfinite(value)}
        raw = self._raw_logprobs(grouped, metadata, keep=bool(metadata.edited))
        unbanned: dict[int, Tensor] = {}
        exhausted: set[int] = set()
        if metadata.edited:
            unbanned, exhausted = edit(grouped, metadata)
            failed = dict.fromkeys(exhausted - unbanned.keys(), NOTHING_ALLOWED) | failed
        if failed or exhausted:  # keep NaN out of what follows; what is drawn for these rows is not used
            rows = torch.tensor([*failed, *exhausted], device=logits.device)
            grouped.logits[rows] = 0.0
            grouped.maxima[rows] = 0.0
        draws = uniforms(metadata.requests, self._seed, metadata.leads)
        token_ids, plain = self._choose(grouped, metadata, draws)
        if masks is not None:
            ConstrainedRows(
                grouped=grouped,
                metadata=metadata,
                masks=masks,
                weigher=self._weigher,
                engine_seed=self._seed,
                draws=draws,
                token_ids=token_ids,
                plain=plain,
                unbanned=unbanned,
                exhausted=exhausted,
                failed=failed,
            ).choose()
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
        return self._choose(grouped, metadata, uniforms(metadata.requests, self._seed, lead))[0], finite

    def _raw_logprobs(self, grouped: GroupedLogits, metadata: SamplingMetadata, *, keep: bool) -> RawLogprobs | None:
        rows = metadata.logprobs
        if not rows:
            return None
        normaliser = self._weigher.weigh(grouped, rows, [1.0] * len(rows)).normaliser
        params = [metadata.requests[row].params for row in rows]
        return RawLogprobs(grouped, rows, params, normaliser, keep=keep)

    def _choose(
        self, grouped: GroupedLogits, metadata: SamplingMetadata, draws: NDArray[np.float64]
    ) -> tuple[Tensor, Weights | None]:
        """[R] int64 token ids, for all rows but those of `metadata.descending`; and the weights of the plain rows."""
        token_ids = grouped.argmax()
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
        plain = None
        if metadata.plain:
            plain = self._choose_plain(grouped, metadata.plain, params, draws, token_ids)
        return token_ids, plain

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
        weights, _, normaliser = self._weigher.weigh(grouped, rows, [params[row].temperature for row in rows])
        values, ids = grouped.top(index, TOP_P_CANDIDATES)
        temperatures = column([params[row].temperature for row in rows], values)
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
            draw = torch.from_numpy(draws[row : row + 1])[:, None].to(index.device)
            token_ids[row] = pick_by_cumulative_weight(row_weights[None], draw, group_sums(row_weights[None]))[0, 0]

    def _choose_plain(
        self,
        grouped: GroupedLogits,
        rows: Sequence[int],
        params: Sequence[SamplingParams],
        draws: NDArray[np.float64],
        token_ids: Tensor,
    ) -> Weights:
        """The inverse cumulative distribution over the whole vocabulary, in order of ids. Returns the weights."""
        found = self._weigher.weigh(grouped, rows, [params[row].temperature for row in rows])
        for place, row in enumerate(rows):
            if params[row].min_p > 0:
                found.weights[place].mul_(found.weights[place] >= params[row].min_p)
                found.sums[place] = group_sums(found.weights[place : place + 1])[0]
        draw = torch.from_numpy(draws[list(rows)])[:, None].to(token_ids.device)
        places = pick_by_cumulative_weight(found.weights, draw, found.sums)[:, 0]
        token_ids[torch.tensor(rows, device=token_ids.device)] = places
        return found


def edit(grouped: GroupedLogits, metadata: SamplingMetadata) -> tuple[dict[int, Tensor], set[int]]:
    """Steps 3 and 4, in place. Returns rows with a grammar as they were before, and which rows have no token left."""
    logits, requests = grouped.logits, metadata.requests
    before = {row: logits[row].clone() for row in metadata.edited if requests[row].matcher is not None}
    edit_logits(logits, requests, metadata.edited, metadata.eos_token_ids)
    grouped.has_forbidden = True
    index = torch.tensor(metadata.edited, device=logits.device)
    grouped.refresh(index)
    largest = grouped.maxima[index].amax(-1).tolist()
    return before, {row for row, value in zip(metadata.edited, largest, strict=True) if not value > NOTHING_LEFT}
