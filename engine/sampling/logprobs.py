"""Log-probabilities under the raw distribution: before bias, penalties and temperature."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specserve.engine.api import TokenLogprob, TokenLogprobs
from specserve.engine.sampling.candidates import GroupedLogits


class RawLogprobs:
    """Taken from the raw logits before any edit; asked again once tokens are chosen.

    Without edits the logits themselves are kept, with edits a copy of the rows that report.
    """

    def __init__(
        self, grouped: GroupedLogits, rows: Sequence[int], num_top: Sequence[int], copy: bool
    ) -> None:
        """`num_top` alternatives are wanted for each of `rows`."""
        every = list(rows) == list(range(len(grouped.logits)))
        index = None if every else torch.tensor(rows, device=grouped.logits.device)
        self._rows = list(rows)
        self._num_top = list(num_top)
        self._raw = grouped.logits if index is None else grouped.logits[index]
        if copy and index is None:
            self._raw = self._raw.clone()
        self._normaliser = self._raw.logsumexp(-1, keepdim=True)
        most = max(self._num_top)
        self._top: tuple[Tensor, Tensor] | None = grouped.top(index, most) if most else None

    def report(self, token_ids: Tensor) -> dict[int, TokenLogprobs]:
        """By row, for the tokens [R] chosen in all rows. Ranks count from 1; equals share the better rank."""
        chosen = token_ids[torch.tensor(self._rows, device=token_ids.device)][:, None]
        values = self._raw.gather(1, chosen)
        ranks = ((self._raw > values).sum(-1) + 1).tolist()
        logprobs = (values - self._normaliser)[:, 0].tolist()
        ids = chosen[:, 0].tolist()
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
