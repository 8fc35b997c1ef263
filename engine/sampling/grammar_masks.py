"""Masks of constrained rows: filled by the grammar library while the forward pass runs, then laid over the logits."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import llguidance
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specserve.engine.batch import SampledToken
from specserve.engine.request import Request
from specserve.engine.sampling.candidates import GroupedLogits
from specserve.engine.sampling.cpu_passes import passes_for

FORBIDDEN = -3e38
"""The logit of forbidden tokens: below everything that penalties can make of one, so their probability is exactly 0."""
NOTHING_LEFT = -2e38
"""A row whose largest logit is below this has no token left."""
WORD_BITS = 32


class StepMasks:
    """The masks of one step, for the constrained ones of its R sampling rows.

    rows      numbers of the constrained rows, ascending
    matchers  one per row, where its answer stands
    """

    def __init__(
        self, rows: list[int], matchers: list[llguidance.LLMatcher], filling: Future[NDArray[np.int32]]
    ) -> None:
        self.rows = rows
        self.matchers = matchers
        self._filling = filling

    def allowed(self) -> Tensor:
        """[r, ceil(V / 32)] int32, a bit for each token the row may take; waits until the masks are filled."""
        return torch.from_numpy(self._filling.result())

    def failures(self) -> dict[int, str]:
        """By row: matchers that gave up. They allow nothing; their requests cannot go on."""
        return {
            row: f"the constraint became too complex to follow ({matcher.get_error()[:200].strip()}); simplify it"
            for row, matcher in zip(self.rows, self.matchers, strict=True)
            if matcher.is_error()
        }

    def apply(self, grouped: GroupedLogits) -> None:
        """Forbid in place, and take in the groups' new maxima."""
        self._apply(grouped, self.rows, self.allowed())

    def apply_row(self, grouped: GroupedLogits, row: int) -> None:
        """The same for one row of the logits alone."""
        place = self.rows.index(row)
        self._apply(grouped, [row], self.allowed()[place : place + 1])

    def _apply(self, grouped: GroupedLogits, rows: list[int], allowed: Tensor) -> None:
        logits = grouped.logits
        index = torch.tensor(rows, device=logits.device)
        if (passes := passes_for(logits)) is not None:
            grouped.maxima[index] = passes.forbid(logits, index, allowed, FORBIDDEN)
            return
        bits = allowed.to(logits.device, non_blocking=True)
        places = torch.arange(logits.shape[1], device=logits.device)
        is_allowed = bits[:, places // WORD_BITS] >> (places % WORD_BITS) & 1
        logits[index] = logits[index].masked_fill(is_allowed == 0, FORBIDDEN)
        grouped.refresh(index)

    def advance(self, results: list[SampledToken | str]) -> None:
        """Take in the tokens chosen for all R rows, and note whose answer can only end now; failed rows stay."""
        for row, matcher in zip(self.rows, self.matchers, strict=True):
            sampled = results[row]
            if isinstance(sampled, str):
                continue
            if not matcher.consume_token(sampled.token_id):
                results[row] = f"token {sampled.token_id} does not continue the constrained answer"
            elif matcher.is_stopped():
                results[row] = replace(sampled, ends=True)


class MaskFiller:
    """Fills the masks of one step after the other, beside the thread that computes the step."""

    def __init__(self, vocab_size: int, eos_token_ids: Sequence[int], num_threads: int = 1) -> None:
        """`num_threads` above 1 where cores are idle: beside a pass that keeps them busy they cost more than they save.

        `vocab_size` is the length of a row of logits and of the vocabulary that grammars were compiled for."""
        self._num_words = -(-vocab_size // WORD_BITS)
        self._eos_words = np.zeros(self._num_words, dtype=np.int32)
        for token_id in eos_token_ids:
            self._eos_words.view(np.uint32)[token_id // WORD_BITS] |= np.uint32(1 << token_id % WORD_BITS)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="masks")
        self._num_threads = num_threads
        self._executor: llguidance.LLExecutor | None = None
        self._bits = np.empty((0, self._num_words), dtype=np.int32)

    def begin(self, requests: Sequence[Request]) -> StepMasks | None:
        """Start filling for the requests of a step's sampling rows; None when none is constrained."""
        constrained = {row: matcher for row, request in enumerate(requests) if (matcher := request.matcher) is not None}
        if not constrained:
            return None
        rows, matchers = list(constrained), list(constrained.values())
        goes_on = [place for place, row in enumerate(rows) if requests[row].params.ignore_eos]
        return StepMasks(rows, matchers, self._pool.submit(self._fill, matchers, goes_on))

    def _fill(self, matchers: list[llguidance.LLMatcher], goes_on: list[int]) -> NDArray[np.int32]:
        if len(self._bits) < len(matchers):
            self._bits = np.empty((len(matchers), self._num_words), dtype=np.int32)
        bits = self._bits[: len(matchers)]
        bits.fill(0)
        row_bytes = bits.shape[1] * bits.itemsize
        if self._num_threads == 1:
            for place, matcher in enumerate(matchers):
                matcher.unsafe_compute_mask_ptr(bits.ctypes.data + place * row_bytes, row_bytes)
        else:
            if self._executor is None:
                self._executor = llguidance.LLExecutor(self._num_threads)
            pairs = [(matcher, place) for place, matcher in enumerate(matchers)]
            self._executor.unsafe_compute_mask_ptr(pairs, bits.ctypes.data, row_bytes, len(matchers))
        for place in goes_on:  # ignore_eos: end only where nothing else is left
            longer = bits[place] & ~self._eos_words
            if longer.any():
                bits[place] = longer
        return bits
