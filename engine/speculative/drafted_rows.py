"""Drafts in the scheduler's steps: the slots they need, and what remains of them afterwards. Plain Python."""

from __future__ import annotations

from specserve.engine.batch import ScheduledRequest
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.request import Request
from specserve.engine.speculative.drafter import Drafter
from specserve.engine.stats import DraftTotals


class DraftedRows:
    """Between scheduler, drafter and cache. Without a drafter nothing is ever drafted."""

    def __init__(self, drafter: Drafter | None, cache: KVCacheManager) -> None:
        self._drafter = drafter
        self._cache = cache

    @property
    def totals(self) -> DraftTotals:
        return DraftTotals() if self._drafter is None else self._drafter.totals

    def may_draft(self, num_decodes: int) -> bool:
        return self._drafter is not None and self._drafter.may_draft(num_decodes)

    def split(
        self, decodes: list[ScheduledRequest], num_tokens: int, num_running: int
    ) -> tuple[list[ScheduledRequest], list[ScheduledRequest]]:
        """The decodes of a step without and with drafts, of up to `num_tokens` tokens in all.

        Nobody gives way to a draft: it takes free blocks as long as one for each of `num_running` requests is left.
        """
        if self._drafter is None:
            return decodes, []
        if not self._drafter.may_draft(len(decodes)):
            self._drafter.plan(0, 0)
            return decodes, []
        requests = [item.request for item in decodes if item.samples]
        drafts = self._drafter.draft(requests, len(decodes), num_tokens)
        single: list[ScheduledRequest] = []
        drafted: list[ScheduledRequest] = []
        for item in decodes:
            request, draft = item.request, drafts.get(item.request.request_id, [])
            if draft and not self._cache.allocate_slots(request, 1 + len(draft), reserve=num_running):
                draft = draft[: len(request.block_table) * self._cache.block_size - item.start - 1]
            if draft:
                drafted.append(ScheduledRequest(request, item.start, 1 + len(draft), item.samples, drafts=draft))
            else:
                single.append(item)
        self._drafter.plan(len(decodes), sum(len(item.drafts) for item in drafted))
        return single, drafted

    def settle(self, item: ScheduledRequest, num_accepted: int) -> None:
        """The tokens that were right count as computed; blocks that only the others needed go back."""
        if item.drafts and self._drafter is not None:
            item.request.num_computed_tokens += num_accepted
            self._cache.trim(item.request, item.request.num_tokens)
            self._drafter.learn(item.request, len(item.drafts), num_accepted)

    def forget(self, request: Request) -> None:
        if self._drafter is not None:
            self._drafter.forget(request)
