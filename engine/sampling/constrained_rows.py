"""Chooses the tokens of rows with a grammar: exactly as under its mask, mostly without one.

Tokens are drawn as if there were no grammar, and the grammar is asked about them:

- temperature 0: the most likely tokens in turn, until one is accepted. That is the largest logit of what is allowed.
- all tokens: independent draws, until one is accepted. A token t is the first to be accepted with probability
  p(t) + (1 - A) p(t) + (1 - A)² p(t) + … = p(t) / A, where A is the probability of all that is allowed.
- top_k, top_p, min_p: `descending_draw`.

A row for which a few of these lead to nothing is decided among the tokens of its mask, with the same result for the
first and third kind and an independent draw for the second, which leaves p(t) / A as it is. Many tokens are allowed
where masks are costly, so few draws are refused there; where nearly nothing is allowed, masks cost little.

Which tokens are drawn, and when it is given up, depends on the logits, the request and what its grammar accepts; not on
whether the mask was filled ahead, on other rows or on time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specserve.engine.sampling.candidate_draw import draw_candidates
from specserve.engine.sampling.candidates import GroupedLogits
from specserve.engine.sampling.descending_draw import draw_descending
from specserve.engine.sampling.grammar_masks import StepMasks
from specserve.engine.sampling.metadata import SamplingMetadata
from specserve.engine.sampling.uniforms import further_uniforms
from specserve.engine.sampling.weights import Weigher, Weights, pick_by_cumulative_weight

NUM_LIKELY = 64
NUM_FURTHER_DRAWS = 31
SIZES = (64, 512, 4096, 32768)
"""Rows with up to so many allowed tokens are decided together."""
NOTHING_LEFT = -2e38
"""A row whose largest logit is below this has no token left."""
NOTHING_ALLOWED = "no token is left to choose: allowed_token_ids, logit_bias and min_tokens exclude all"


@dataclass(slots=True)
class ConstrainedRows:
    """One step's rows with a grammar, after everything else was chosen.

    draws       [R] in [0, 1)
    token_ids   [R] chosen without grammars, for rows of `metadata.greedy` and `metadata.plain`; edited
    plain       weights of `metadata.plain`
    unbanned    rows of logits as they were before bans, for edited rows
    exhausted   rows to which the bans leave nothing; their logits mean nothing
    failed      rows that need no token, and why; gets more
    """

    grouped: GroupedLogits
    metadata: SamplingMetadata
    masks: StepMasks
    weigher: Weigher
    engine_seed: int
    draws: NDArray[np.float64]
    token_ids: Tensor
    plain: Weights | None
    unbanned: Mapping[int, Tensor]
    exhausted: Set[int]
    failed: dict[int, str]
    _open: set[int] = field(default_factory=set)

    def choose(self) -> None:
        self._open = {row for row in self.masks.grammars if row not in self.failed}
        unbannable = self._open & self.exhausted
        self._open -= unbannable
        drawn = self.token_ids.tolist()
        first = [*self.metadata.greedy, *self.metadata.plain]
        self._open -= {row for row in first if row in self._open and self._accepts(row, drawn[row])}
        self._draw_again()
        self._try_most_likely([row for row in self.metadata.greedy if row in self._open])
        for size, rows in self.metadata.descending.items():
            if size is not None:
                self._draw_descending([row for row in rows if row in self._open], size)
        self._open |= unbannable
        if self._open:
            self._choose_under_masks(sorted(self._open))

    def _accepts(self, row: int, token_id: int) -> bool:
        return self.masks.grammars[row].accepts(token_id)

    def _take(self, row: int, token_id: int | None) -> None:
        if token_id is not None:
            self.token_ids[row] = token_id
            self._open.discard(row)

    def _draw_again(self) -> None:
        places = [place for place, row in enumerate(self.metadata.plain) if row in self._open]
        if not places or self.plain is None:
            return
        rows = [self.metadata.plain[place] for place in places]
        device = self.token_ids.device
        draws = torch.from_numpy(self._further_draws(rows)[:, 1:]).to(device)
        index = torch.tensor(places, device=device)
        drawn = pick_by_cumulative_weight(self.plain.weights, draws, self.plain.sums, index).tolist()
        for row, token_ids in zip(rows, drawn, strict=True):
            self._take(row, next((token_id for token_id in token_ids if self._accepts(row, token_id)), None))

    def _further_draws(self, rows: Sequence[int]) -> NDArray[np.float64]:
        """[r, 1 + NUM_FURTHER_DRAWS]; the first is for the mask."""
        requests = [self.metadata.requests[row] for row in rows]
        return further_uniforms(requests, self.engine_seed, 1 + NUM_FURTHER_DRAWS)

    def _try_most_likely(self, rows: Sequence[int]) -> None:
        for row, (logits, token_ids) in zip(rows, self._most_likely(rows, NUM_LIKELY), strict=True):
            likely = (id_ for logit, id_ in zip(logits, token_ids, strict=True) if logit > NOTHING_LEFT)
            self._take(row, next((token_id for token_id in likely if self._accepts(row, token_id)), None))

    def _draw_descending(self, rows: Sequence[int], size: int) -> None:
        if not rows:
            return
        params = [self.metadata.requests[row].params for row in rows]
        if params[0].top_k:
            totals = [float("inf")] * len(rows)
        else:
            weights = self.weigher.weigh(self.grouped, rows, [chosen.temperature for chosen in params])
            totals = weights.sums.double().sum(-1).tolist()
        lists = self._most_likely(rows, size)
        for row, (logits, token_ids), chosen, total in zip(rows, lists, params, totals, strict=True):
            accepts = self.masks.grammars[row].accepts
            self._take(row, draw_descending(logits, token_ids, accepts, chosen, float(self.draws[row]), total))

    def _most_likely(self, rows: Sequence[int], size: int) -> list[tuple[list[float], list[int]]]:
        """Logits and ids of up to `size` tokens for each row, descending, equals by id; all that are as likely as the
        last one, or none of them.
        """
        if not rows:
            return []
        found, ids = self.grouped.top(torch.tensor(rows, device=self.token_ids.device), size)
        ids, order = ids.sort(-1)
        values, order = found.gather(1, order).sort(dim=-1, descending=True, stable=True)
        whole = ids.shape[1] == self.grouped.logits.shape[1]
        counts = [ids.shape[1]] * len(rows) if whole else (values > values[:, -1:]).sum(-1).tolist()
        return [
            (logits[:count], token_ids[:count])
            for logits, token_ids, count in zip(values.tolist(), ids.gather(1, order).tolist(), counts, strict=True)
        ]

    def _choose_under_masks(self, rows: Sequence[int]) -> None:
        self.masks.fill(rows)
        by_size: dict[int, list[tuple[int, NDArray[np.int64]]]] = {}
        vocab_size = self.grouped.logits.shape[1]
        for row in rows:
            grammar = self.masks.grammars[row]
            grammar.was_short = True
            ids = grammar.allowed_ids()
            if (reason := grammar.failure()) is not None:
                self.failed[row] = reason
            else:
                size = next((size for size in SIZES if len(ids) <= size), vocab_size)
                by_size.setdefault(size, []).append((row, ids))
        for size, members in by_size.items():
            self._choose_among([row for row, _ in members], [ids for _, ids in members], size)

    def _choose_among(self, rows: Sequence[int], allowed: Sequence[NDArray[np.int64]], size: int) -> None:
        """Rows with up to `size` allowed ids each."""
        device = self.token_ids.device
        padded = np.zeros((len(rows), size), dtype=np.int64)
        for place, ids in enumerate(allowed):
            padded[place, : len(ids)] = ids
        token_ids, index = torch.from_numpy(padded).to(device), torch.tensor(rows, device=device)
        logits = self.grouped.logits.take(token_ids + index[:, None] * self.grouped.logits.shape[1])
        lengths = torch.tensor([len(ids) for ids in allowed], device=device)
        logits.masked_fill_(torch.arange(size, device=device) >= lengths[:, None], float("-inf"))
        for place, (row, largest) in enumerate(zip(rows, logits.amax(-1).tolist(), strict=True)):
            if row in self.unbanned and (row in self.exhausted or largest <= NOTHING_LEFT):
                own = slice(len(allowed[place]))
                logits[place, own] = self.unbanned[row][token_ids[place, own]]
                largest = float(logits[place].amax())
            if not largest > NOTHING_LEFT:
                self.failed[row] = NOTHING_ALLOWED
                logits[place] = 0.0
        chosen = self._choose_places(GroupedLogits(logits), rows)
        self.token_ids[index] = token_ids.gather(1, chosen[:, None])[:, 0]

    def _choose_places(self, allowed: GroupedLogits, rows: Sequence[int]) -> Tensor:
        """[r] for all r rows of these logits, which are all that is left to the given rows of the step."""
        allowed.has_forbidden = True
        places = allowed.argmax()
        params = [self.metadata.requests[row].params for row in rows]
        kinds = [(place, row, params[place]) for place, row in enumerate(rows) if not params[place].is_greedy]
        descending = [place for place, row, chosen in kinds if chosen.top_k or chosen.top_p < 1.0 or chosen.min_p > 0.0]
        plain = [place for place, _, _ in kinds if place not in descending]
        if descending:
            index = torch.tensor(descending, device=places.device)
            values, order = allowed.logits[index].sort(dim=-1, descending=True, stable=True)
            draws = self.draws[[rows[place] for place in descending]]
            places[index] = draw_candidates(values, order, [params[place] for place in descending], draws)
        if plain:
            weights = self.weigher.weigh(allowed, plain, [params[place].temperature for place in plain])
            draws = self._further_draws([rows[place] for place in plain])[:, :1]
            draw = torch.from_numpy(np.ascontiguousarray(draws)).to(places.device)
            chosen_places = pick_by_cumulative_weight(weights.weights, draw, weights.sums)[:, 0]
            places[torch.tensor(plain, device=places.device)] = chosen_places
        return places
