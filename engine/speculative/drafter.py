"""Which running requests get drafts in a step, how long, and what is learnt from their fate. Plain Python.

Drafts never change an answer, only how many steps it takes; so everything here is about time alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import astuple

from specserve.engine.config import SpeculativeConfig
from specserve.engine.request import Request
from specserve.engine.speculative.chances import Chances
from specserve.engine.speculative.ngram_index import NgramIndex
from specserve.engine.speculative.step_costs import StepCosts
from specserve.engine.stats import DraftTotals

logger = logging.getLogger(__name__)

REPORT_INTERVAL_S = 60.0
MARGIN = 0.03
"""Drafts have to promise so many more tokens per second: what is measured is not known exactly."""
TRIAL_SHARE = 0.01
"""Of the time may go into tokens that do not promise anything, to see whether a request repeats itself by now."""
LEAST_PRICE = 0.02
"""Of a trial, as a share of the step: also where times tell that it is free."""
FIRST_PRIOR = 0.5
"""How likely the first token of a first draft is right, before any request has ended."""
PRIOR_WEIGHT = 0.25
"""Of the last request in what is expected of the next one."""
LEAST_PRIOR = 0.02
LEAST_SECONDS = 1e-9
"""Of a step: clocks may tell none."""


def describe_drafts(config: SpeculativeConfig) -> str:
    """For the start banner."""
    return (
        f"speculation: up to {config.num_speculative_tokens} tokens at once, which followed the last "
        f"{config.prompt_lookup_min} to {config.prompt_lookup_max} before"
    )


@dataclass(frozen=True, slots=True)
class Guess:
    """What `request` may go on with; `survival`: how likely the first of `tokens` is right, the first two are, …"""

    request: Request
    tokens: list[int]
    survival: list[float]


def choose(guesses: Sequence[Guess], num_decodes: int, costs: Sequence[float]) -> tuple[list[int], float]:
    """How many tokens of each guess a step with so many decodes should verify, and the share of tokens per second that
    it gains by them: the most.

    `costs` are the seconds of the step with 0, 1, ... drafted tokens.
    """
    likely = sorted(
        ((chance, place) for place, guess in enumerate(guesses) for chance in guess.survival), key=lambda one: -one[0]
    )
    plain_rate = num_decodes / max(costs[0], LEAST_SECONDS)
    best, best_rate = 0, (1 + MARGIN) * plain_rate
    expected = float(num_decodes)
    for number, (chance, _) in enumerate(likely[: len(costs) - 1], 1):
        expected += chance
        rate = expected / max(costs[number], LEAST_SECONDS)
        if rate > best_rate:
            best, best_rate = number, rate
    lengths = [0] * len(guesses)
    for _, place in likely[:best]:  # the chances of one guess never rise, so these are its first tokens
        lengths[place] += 1
    return lengths, best_rate / plain_rate - 1


@dataclass(slots=True)
class _Record:
    """drafted_at: tokens it had at its last draft. is_hot: whether the first token of that was right."""

    index: NgramIndex
    chances: Chances
    drafted_at: int
    is_hot: bool = False


class Drafter:
    """Owns what is remembered of each request, from its first step of decoding to its end.

    A step gets the drafted tokens that promise the most tokens per second: of what a step with so many costs
    (`StepCosts`), and how likely each is right (`Chances`); none where none promise more than a step without. So
    drafts fill the steps of one request, where tokens cost little, and of many where they are nearly always right.
    """

    def __init__(self, config: SpeculativeConfig, max_rows: int, costs: StepCosts | None = None) -> None:
        """max_rows   most tokens of a step with drafts, these included"""
        self._config = config
        self._max_rows = max_rows
        self._costs = StepCosts() if costs is None else costs
        self._records: dict[str, _Record] = {}
        self._prior = FIRST_PRIOR
        self._credit = 0.0  # seconds that trials may take
        self._planned = (0, 0)
        self.totals = DraftTotals()
        self._reported_at, self._reported = time.monotonic(), astuple(self.totals)

    def may_draft(self, num_decodes: int) -> bool:
        """Whether a step with so many decodes has room for drafts."""
        return 0 < num_decodes < self._max_rows

    def draft(self, requests: Sequence[Request], num_decodes: int, num_tokens: int) -> dict[str, list[int]]:
        """Drafts by request id for `requests`, of a step with `num_decodes`: up to `num_tokens` in all.

        Those most likely to be right come first.
        """
        costs = self._costs.seconds(num_decodes, min(num_tokens, self._max_rows - num_decodes))
        if len(costs) < 2:
            return {}
        self._credit = min(self._credit + TRIAL_SHARE * costs[0], costs[0])
        guesses = self._guesses(requests, len(costs) - 1)
        lengths, gain = choose(guesses, num_decodes, costs)
        if any(lengths) and self._costs.plain_is_due(num_decodes, gain):
            return {}
        lengths = self._trials(guesses, lengths, costs)
        drafts = {}
        for guess, length in zip(guesses, lengths, strict=True):
            if length and (draft := self._checked(guess.request, guess.tokens[:length])):
                drafts[guess.request.request_id] = draft
        return drafts

    def plan(self, num_decodes: int, num_drafted: int) -> None:
        """What the step has in the end: zeros where it is not to be learnt from."""
        self._planned = num_decodes, num_drafted

    def took(self, num_tokens: int, seconds: float) -> None:
        """The step that was planned last had `num_tokens` beside drafts: prompts tell nothing of drafts."""
        num_decodes, num_drafted = self._planned
        if num_decodes and num_decodes == num_tokens:
            self._costs.took(num_decodes, num_drafted, seconds)
        self._planned = 0, 0

    def learn(self, request: Request, num_drafted: int, num_accepted: int) -> None:
        """`request` has the tokens that were right by now, and the one behind them."""
        self.totals.count(num_drafted, num_accepted)
        self._report()
        record = self._record(request)
        drafted_at = request.num_tokens - num_accepted - 1
        record.chances.learn(num_drafted, num_accepted, drafted_at - record.drafted_at)
        record.drafted_at, record.is_hot = drafted_at, num_accepted > 0

    def forget(self, request: Request) -> None:
        record = self._records.pop(request.request_id, None)
        if record is not None and record.chances.is_known:
            self._prior += PRIOR_WEIGHT * (max(record.chances.first(), LEAST_PRIOR) - self._prior)

    def _guesses(self, requests: Sequence[Request], most: int) -> list[Guess]:
        """What each request may go on with, where anything is known."""
        guesses = []
        for request in requests:
            # Beside the drafts, the step that verifies them chooses one more token.
            room = min(self._config.num_speculative_tokens, request.max_num_tokens - request.num_tokens - 1, most)
            if room > 0:
                record = self._record(request)
                if tokens := self._propose(request, record, room):
                    guesses.append(Guess(request, tokens, record.chances.survival(len(tokens))))
        return guesses

    def _trials(self, guesses: Sequence[Guess], lengths: list[int], costs: Sequence[float]) -> list[int]:
        """One token more for requests without, as long as they have been so, where their price has been saved up.

        First for those whose last one was right: they may have begun to repeat.
        """

        def turn(place: int) -> tuple[bool, int]:
            request = guesses[place].request
            record = self._record(request)
            return not record.is_hot, record.drafted_at - request.num_tokens

        number, least = sum(lengths), LEAST_PRICE * costs[0]
        for place in sorted((place for place, length in enumerate(lengths) if not length), key=turn):
            if number + 1 >= len(costs):
                break
            price = max(costs[number + 1] - costs[number], least)
            if price > self._credit:
                break
            self._credit -= price
            lengths[place] = 1
            number += 1
        return lengths

    def _report(self) -> None:
        """A line in the log for the drafts since the last one, at most one in REPORT_INTERVAL_S."""
        now = time.monotonic()
        if now - self._reported_at < REPORT_INTERVAL_S:
            return
        drafts, drafted, accepted = (
            total - before for total, before in zip(astuple(self.totals), self._reported, strict=True)
        )
        logger.info(
            "speculation drafts=%d draft_tokens=%d accepted_tokens=%d acceptance=%.2f tokens_per_draft=%.2f",
            *(drafts, drafted, accepted, accepted / drafted, 1 + accepted / drafts),
        )
        self._reported_at, self._reported = now, astuple(self.totals)

    def _record(self, request: Request) -> _Record:
        record = self._records.get(request.request_id)
        if record is None:
            index = NgramIndex(self._config.prompt_lookup_min, self._config.prompt_lookup_max)
            record = self._records[request.request_id] = _Record(index, Chances(self._prior), request.num_tokens)
        return record

    def _propose(self, request: Request, record: _Record, count: int) -> list[int]:
        return record.index.propose(request.token_ids, count)

    @staticmethod
    def _checked(request: Request, draft: list[int]) -> list[int]:
        """As far as it could be right: tokens, and ones that the grammar of the answer accepts."""
        if request.prompt_embeds is not None:
            known = next((at for at, token_id in enumerate(draft) if token_id < 0), len(draft))
            draft = draft[:known]
        matcher = request.matcher
        if draft and matcher is not None and not matcher.is_error():
            request.num_tests_without_mask += len(draft)
            draft = draft[: matcher.validate_tokens(draft)]
        return draft
