"""Log-probabilities under the raw distribution: before bias, penalties and temperature."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specserve.engine.api import TokenLogprob, TokenLogprobs
from specserve.engine.sampling.candidates import GroupedLogits


class RawLogprobs:
    """Taken from the raw logits before any edit; asked again once tokens are chosen."""

    def __init__(
        self, grouped: GroupedLogits, rows: Sequence[int], num_top: Sequence[int], normaliser: Tensor, keep: bool
    ) -> None:
        """`num_top` alternatives are wanted for each of `rows`, whose logsumexp is `normaliser` [r, 1].

        `keep` makes a copy of the rows: the logits are about to be edited.
        """
        index = torch.tensor(rows, device=grouped.logits.device)
        most = max(num_top)
        self._rows, self._num_top, self._normaliser = list(rows), list(num_top), normaliser
        self._top: tuple[Tensor, Tensor] | None = grouped.top(index, most) if most else None
        self._raw = GroupedLogits(grouped.logits[index]) if keep else grouped
        self._index = torch.arange(len(rows), device=index.device) if keep else index

    def report(self, token_ids: Tensor) -> dict[int, TokenLogprobs]:
        """By row, for the tokens [R] chosen in all rows. Ranks count from 1; equals share the better rank."""
        chosen = token_ids[torch.tensor(self._rows, device=token_ids.device)]
        values = self._raw.logits[self._index, chosen][:, None]
        ranks = (self._raw.count_above(self._index, values) + 1).tolist()
        logprobs = (values - self._normaliser)[:, 0].tolist()
        ids = chosen.tolist()
        tops = self._top_lists()
        return {
            row: TokenLogprobs(TokenLogprob(token_id, logprob, rank), top[:count])
            for row, token_id, logprob, rank, top, count in zip(
                self._rows, ids, logprobs, ranks, tops, self._num_top, strict=True
            )
        }

    def _top_lists(self) -> list[tuple[TokenLogprob, ...]]:
        if self._top is None:
            return [()] * len(self._rows)
        values, ids = self._top
        logprobs = (values - self._normaliser).tolist()
        ranks = range(1, ids.shape[1] + 1)
        return [tuple(map(TokenLogprob, *row, ranks)) for row in zip(ids.tolist(), logprobs, strict=True)]
