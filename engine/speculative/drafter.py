"""Which running requests get drafts in a step, how long, and what is learnt from their fate. Plain Python.

Drafts never change an answer, only how many steps it takes; so everything here is about time alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from specserve.engine.config import SpeculativeConfig
from specserve.engine.request import Request
from specserve.engine.speculative.ngram_index import NgramIndex
from specserve.engine.stats import DraftTotals

logger = logging.getLogger(__name__)

REPORT_INTERVAL_S = 60.0
HALF_TRUSTED = 0.5
MEMORY = 0.125
"""Weight of the last draft in a request's rate of acceptance."""
WORTH_IT = 0.1
"""Requests whose rate is below rest for a while."""
FIRST_REST, LONGEST_REST = 16, 256
"""In tokens of the answer; twice as long each time that the next draft fails too."""


def describe_drafts(config: SpeculativeConfig) -> str:
    """For the start banner."""
    return (
        f"speculation: up to {config.num_speculative_tokens} tokens at once, which followed the last "
        f"{config.prompt_lookup_min} to {config.prompt_lookup_max} before"
    )


@dataclass(slots=True)
class _Record:
    """rate: the share of its drafted tokens that were right, of late. rests_until: no draft before so many tokens."""

    index: NgramIndex
    rate: float = HALF_TRUSTED
    rest: int = FIRST_REST
    rests_until: int = 0


class Drafter:
    """Owns what is remembered of each request, from its first step of decoding to its end."""

    def __init__(self, config: SpeculativeConfig, max_rows: int) -> None:
        """max_rows   tokens of a step, drafts included, up to which it takes hardly longer than for a single one"""
        self._config = config
        self._max_rows = max_rows
        self._records: dict[str, _Record] = {}
        self.totals = DraftTotals()
        self._reported_at, self._reported = time.monotonic(), astuple(self.totals)

    def may_draft(self, num_decodes: int) -> bool:
        """Whether a step with so many decodes has room for drafts."""
        return 0 < num_decodes < self._max_rows

    def draft(self, requests: Sequence[Request], num_tokens: int) -> dict[str, list[int]]:
        """Drafts by request id for these decodes of a step, up to `num_tokens` in all.

        Those whose drafts have been right most often come first.
        """
        room = min(num_tokens, self._max_rows - len(requests))
        if room <= 0:
            return {}
        drafts: dict[str, list[int]] = {}
        # Beside the drafts, the step that verifies them chooses one more token.
        going_on = [request for request in requests if request.num_tokens + 1 < request.max_num_tokens]
        records = [(request, self._record(request)) for request in going_on]
        for request, record in sorted(records, key=lambda pair: -pair[1].rate):
            if request.num_tokens < record.rests_until:
                continue
            longest = min(self._length(record), request.max_num_tokens - request.num_tokens - 1, room)
            if draft := self._checked(request, self._propose(request, record, longest)):
                drafts[request.request_id] = draft
                room -= len(draft)
                if room <= 0:
                    break
        return drafts

    def learn(self, request: Request, num_drafted: int, num_accepted: int) -> None:
        self.totals.count(num_drafted, num_accepted)
        self._report()
        record = self._record(request)
        record.rate += MEMORY * (num_accepted / num_drafted - record.rate)
        if record.rate >= WORTH_IT:
            record.rest = FIRST_REST
        else:
            record.rests_until = request.num_tokens + record.rest
            record.rest = min(2 * record.rest, LONGEST_REST)
            record.rate = WORTH_IT  # one more chance then

    def forget(self, request: Request) -> None:
        self._records.pop(request.request_id, None)

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
            record = self._records[request.request_id] = _Record(index)
        return record

    def _propose(self, request: Request, record: _Record, count: int) -> list[int]:
        return record.index.propose(request.token_ids, count)

    def _length(self, record: _Record) -> int:
        """Long drafts only where they have been right."""
        most = self._config.num_speculative_tokens
        return most if record.rate >= HALF_TRUSTED else max(1, round(most * record.rate / HALF_TRUSTED))

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
