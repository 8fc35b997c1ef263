"""Who computes how many tokens in the next step. Plain Python: no tensors, no text.

There is one kind of step: first every running sequence that lacks a single token (decodes), then chunks of
those that lack more (prefill), within one token budget. Requests are served in order of arrival, or by the
policy `priority` in the order (priority, arrival). A running request gives way when an earlier one finds no block;
by the policy `priority` also when one of higher priority waits and finds no block or no place.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import asdict

from specserve.engine.adapter_places import AdapterPlaces, adapters_of
from specserve.engine.admission import ORDERS, admit, fits_without, refusal
from specserve.engine.api import FinishReason
from specserve.engine.batch import RequestProgress, ScheduledBatch, ScheduledRequest, StepOutput
from specserve.engine.chunks import next_chunk
from specserve.engine.errors import InvalidParameterError
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.prefill_budget import PrefillBudget
from specserve.engine.progress import gain_nothing, gain_prompt_logprobs, gain_tokens
from specserve.engine.request import Phase, Request
from specserve.engine.speculative.drafted_rows import DraftedRows
from specserve.engine.speculative.drafter import Drafter
from specserve.engine.stats import EngineStats, Totals
from specserve.engine.waiting import WaitingRequests


class Scheduler:
    """Owns all requests between `add` and their end. Synchronous and single-threaded; the caller alternates
    `schedule` and `update`, with `add` and `abort` at any time.

    max_num_seqs             sequences that hold blocks at once
    max_num_batched_tokens   tokens of one step; at least max_num_seqs, so that every decode fits
    max_model_len            tokens of a sequence, prompt and answer together
    eos_token_ids            the model's end tokens: they end a sequence with `stop_reason` None unless
                             `ignore_eos`
    policy                   one of ORDERS
    max_reported_rows        prompt positions whose logprobs one step reports, so that their logits fit into
                             memory; None: as many as it computes
    computes_whole_prompts   a prompt is computed in one step or not yet; `max_model_len` of them fit into one
    prefill_budget           how many tokens of prompts a step may hold beside decodes; None: as many as fit
    max_adapters             different adapters that compute in one step
    drafter                  guesses tokens that are verified in the step of the one before them

    A request holds blocks for all its known tokens from admission on, also while its prompt is computed in
    chunks: so only a decode can find no block. Then the last in order is preempted: it gives all blocks back,
    waits at the head of the queue and recomputes. The first in order can take from everyone else and
    therefore always progresses.
    """

    def __init__(
        self,
        cache: KVCacheManager,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        max_model_len: int,
        eos_token_ids: Iterable[int] = (),
        policy: str = "fcfs",
        max_reported_rows: int | None = None,
        computes_whole_prompts: bool = False,
        prefill_budget: PrefillBudget | None = None,
        max_adapters: int = 0,
        drafter: Drafter | None = None,
    ) -> None:
        if not 1 <= max_num_seqs <= max_num_batched_tokens:
            raise InvalidParameterError(
                f"max_num_seqs is {max_num_seqs}, but must be at least 1 and at most max_num_batched_tokens="
                f"{max_num_batched_tokens}, because each sequence needs one token a step",
                param="max_num_seqs",
            )
        self._cache = cache
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self._max_model_len = max_model_len
        self._eos_token_ids = frozenset(eos_token_ids)
        self._order = ORDERS[policy]
        self._preempts_for_waiting = policy == "priority"
        self._computes_whole_prompts = computes_whole_prompts
        self._prefill_budget = prefill_budget
        self._drafts = DraftedRows(drafter, cache)
        self._max_reported_rows = max_num_batched_tokens if max_reported_rows is None else max_reported_rows
        self._requests: dict[str, Request] = {}
        self._running: list[Request] = []  # sorted by _order
        self._places = AdapterPlaces(max_adapters)
        self._waiting = WaitingRequests(self._order, cache, self._places)
        self._in_flight: set[str] = set()
        self._ahead: set[str] = set()
        self._aborted_in_flight: set[str] = set()
        self._num_arrivals = 0
        self._totals = Totals()

    @property
    def max_sequence_len(self) -> int:
        """Tokens of the longest sequence: `max_model_len`, or what the whole pool holds if that is less."""
        return min(self._max_model_len, self._cache.capacity_tokens)

    @property
    def has_requests(self) -> bool:
        """Whether `schedule` may have work, now or after others have ended."""
        return bool(self._requests)

    def add(self, requests: Sequence[Request]) -> list[RequestProgress]:
        """Queue requests; of siblings with one prompt all but the first wait until its full blocks can be
        shared.

        Returns one progress with `error` for each request that can never run; those are not queued. Raises
        InvalidParameterError, with nothing queued, when an id is already in use: an answer could not be told
        apart.
        """
        seen: set[str] = set()
        for request in requests:
            if request.request_id in self._requests or request.request_id in seen:
                raise InvalidParameterError(
                    f"request_id {request.request_id!r} is in use; choose another or wait until it has ended",
                    param="request_id",
                )
            seen.add(request.request_id)
        refused: list[RequestProgress] = []
        first_of: dict[str, Request] = {}
        for request in requests:
            if (why := refusal(request, self._cache, self._max_model_len)) is not None:
                refused.append(RequestProgress.failed(request.request_id, why.message))
                continue
            request.arrival = self._num_arrivals
            self._num_arrivals += 1
            request.max_num_tokens = min(request.num_prompt_tokens + request.params.max_tokens, self.max_sequence_len)
            self._requests[request.request_id] = request
            first = first_of.setdefault(request.parent_id or request.request_id, request)
            self._waiting.enqueue_behind(first, request)
        return refused

    def make_ready(self, request_id: str) -> None:
        """The grammar of a request is there; unknown ids are ignored, they may just have been aborted."""
        request = self._requests.get(request_id)
        if request is not None and not request.is_ready:
            self._waiting.make_ready(request)

    def refuse(self, request_id: str, reason: str) -> RequestProgress | None:
        """End a request that is not ready because it never will be; None if it is not known."""
        request = self._requests.get(request_id)
        if request is None or request.is_ready:
            return None
        self._end(request, None)
        return RequestProgress.failed(request_id, reason, is_refusal=True)

    def find(self, request_id: str) -> Request | None:
        return self._requests.get(request_id)

    def abort(self, request_ids: Iterable[str]) -> None:
        """End requests without a further word about them; unknown ids are ignored, they may just have
        finished.

        Blocks are free at once, or after the step for a request that is being computed.
        """
        for request_id in request_ids:
            request = self._requests.get(request_id)
            if request is None or request_id in self._aborted_in_flight:
                continue
            self._totals.num_aborted += 1
            if request_id in self._in_flight:
                self._aborted_in_flight.add(request_id)
            else:
                self._end(request, FinishReason.ABORT)

    def schedule(self) -> ScheduledBatch:
        """Choose the next step's tokens and make sure that their slots exist. An empty batch means nothing to
        do.

        Requests with a single token come first, then those with drafts, each group in order. Drafts take no more than
        half of what the decodes leave of the budget, and no block that the growth of others may need soon.
        """
        if self._in_flight:
            raise RuntimeError("schedule() before update() of the last batch")
        if self._preempts_for_waiting:
            self._make_room()
        single: list[ScheduledRequest] = []
        chunks: list[ScheduledRequest] = []
        self._schedule_decodes(single)
        num_decodes = len(single)
        single, drafted = self._drafts.split(
            single, (self._max_num_batched_tokens - num_decodes) // 2, len(self._running)
        )
        num_drafted = sum(len(item.drafts) for item in drafted)
        rows = self._max_reported_rows
        prefills = deque(r for r in self._running if r.num_tokens - r.num_computed_tokens > 1)
        budget = most = self._num_prompt_tokens(num_decodes, num_drafted, len(prefills))
        admitting = True
        while budget > 0:
            if admitting and (next_one := self._next_waiting(prefills)) is not None:
                request = next_one
                if self._computes_whole_prompts and request.num_tokens > budget:
                    break
                admitting = admit(request, self._running, self._cache)
                if not admitting:
                    continue
                self._waiting.take(request)
                self._start(request)
            elif prefills:
                request = prefills.popleft()
            else:
                break
            chunk = next_chunk(request, budget, rows)
            if chunk is None:
                continue  # its turn comes in a later step
            rows -= len(chunk.reported)
            budget -= chunk.num_new_tokens
            group = single if chunk.num_new_tokens == 1 else chunks
            group.append(chunk)
        scheduled = single + drafted + chunks
        self._in_flight.update(item.request.request_id for item in scheduled)
        num_reported = self._max_reported_rows - rows
        num_tokens = num_decodes + num_drafted + most - budget
        return ScheduledBatch(scheduled, num_tokens, num_reported > 0, num_drafted)

    def schedule_ahead(self, batch: ScheduledBatch) -> ScheduledBatch | None:
        """The step behind `batch`, which is still being computed; None where its outcome has to be known first.

        Everything that runs must be in `batch` and choose a token in it; each request whose length does not end with
        that token gets the next one. `update` has to be called for both, in order, and for requests that end with the
        first, what the second computes is forgotten. Nothing that waits is held up: it could not start anyway.
        """
        may_start = len(self._running) < self._max_num_seqs or self._preempts_for_waiting
        if self._ahead or len(batch.requests) != len(self._running) or (self._waiting and may_start):
            return None
        if self._drafts.may_draft(len(self._running)):
            return None
        items = []
        for item in batch.requests:
            request, position = item.request, item.start + item.num_new_tokens
            if not item.samples or item.reported or request.request_id in self._aborted_in_flight:
                return None
            if position + 1 >= request.max_num_tokens:
                continue
            if not self._cache.allocate_slots(request, position + 1 - request.num_computed_tokens):
                return None
            items.append(ScheduledRequest(request, position, 1, True))
        self._ahead.update(item.request.request_id for item in items)
        return ScheduledBatch(items, len(items)) if items else None

    def update(self, batch: ScheduledBatch, output: StepOutput) -> list[RequestProgress]:
        """Take in what a step computed; requests that ended have given their blocks back when this returns.

        One progress for each request that sampled a token, reported logprobs of its prompt, ended or failed. A
        sampling or reporting request that `output` does not mention is a KeyError: the runner's fault.
        """
        self._totals.num_steps += 1
        self._in_flight, self._ahead = self._ahead, set()
        progress: list[RequestProgress] = []
        reports_prompt = batch.reports_prompt
        for item in batch.requests:
            request = item.request
            if request.is_finished:
                continue  # by the step before, when this one was under way
            if request.request_id in self._aborted_in_flight:
                self._end(request, FinishReason.ABORT)
            elif (reason := output.failed.get(request.request_id)) is not None:
                # What it computed may not be finite: nobody else shall find it.
                self._cache.discard(request)
                self._end(request, None)
                is_refusal = request.request_id in output.refused
                progress.append(
                    RequestProgress.failed(request.request_id, reason, request.num_cached_tokens, is_refusal=is_refusal)
                )
            else:
                request.num_computed_tokens += item.num_known_tokens
                gained = None
                if reports_prompt and item.reported:
                    packed = output.prompt_logprobs[request.request_id]
                    gained = gain_prompt_logprobs(request, item.reported, packed, self._waiting.siblings_of(request))
                if self._waiting.holds_siblings:
                    self._waiting.release_siblings(request)
                if item.samples:
                    reported, sampled = gained, [output.sampled[request.request_id]]
                    sampled += output.further.get(request.request_id, ())
                    gained = gain_tokens(request, sampled, self._eos_token_ids)
                    self._totals.num_generated_tokens += len(gained.token_ids)
                    self._drafts.settle(item, len(gained.token_ids) - 1)
                    if reported is not None:
                        gained.prompt_logprobs = reported.prompt_logprobs
                elif request.num_computed_tokens == request.max_num_tokens:  # only the prompt was wanted
                    gained = gained or gain_nothing(request)
                    gained.finish_reason = FinishReason.LENGTH
                    gained.pooled = output.pooled.get(request.request_id)
                self._cache.cache_full_blocks(request)
                if gained is not None:
                    if gained.finish_reason is not None:
                        self._end(request, gained.finish_reason)
                    progress.append(gained)
        for request_id in self._aborted_in_flight & self._requests.keys():  # a new request under an old one's id
            self._end(self._requests[request_id], FinishReason.ABORT)
        self._aborted_in_flight.clear()
        return progress

    def stats(self) -> EngineStats:
        return EngineStats(
            num_running=len(self._running),
            num_waiting=len(self._requests) - len(self._running),
            num_blocks=self._cache.num_usable_blocks,
            num_used_blocks=self._cache.num_used_blocks,
            **asdict(self._totals),
            **self._adapter_stats(),
            **asdict(self._drafts.totals),
        )

    def _adapter_stats(self) -> dict[str, Any]:
        if not self._places.number:
            return {}
        waiting = (request for request in self._requests.values() if request.phase is Phase.WAITING)
        return {
            "running_adapters": adapters_of(self._running),
            "waiting_adapters": adapters_of(waiting),
            "max_adapters": self._places.number,
        }

    def _schedule_decodes(self, single: list[ScheduledRequest]) -> None:
        running = self._running
        index = 0
        while index < len(running):
            request = running[index]
            start, num_tokens = request.num_computed_tokens, len(request.token_ids)
            if num_tokens - start == 1:
                while not self._cache.allocate_slots(request, 1):
                    victim = running.pop()  # never one that is scheduled already: those come earlier in order
                    self._preempt(victim)
                    if victim is request:
                        return
                single.append(ScheduledRequest(request, start, 1, num_tokens < request.max_num_tokens))
            index += 1

    def _num_prompt_tokens(self, num_decodes: int, num_drafted: int, num_prefills: int) -> int:
        """How many tokens of prompts the step may hold."""
        most = self._max_num_batched_tokens - num_decodes - num_drafted
        if self._prefill_budget is None:
            return most
        startable = min(len(self._waiting), self._max_num_seqs - len(self._running))
        return self._prefill_budget.tokens(num_decodes, num_prefills + startable, most)

    def _make_room(self) -> None:
        """Start the requests that wait with a higher priority than some running one; those give way if they must.

        Nobody gives way in vain: only if the blocks of all that have a lower priority suffice.
        """
        while self._waiting:
            request = self._waiting.first
            lower = [running for running in self._running if running.priority > request.priority]
            if not lower:
                return
            if not self._admit(request):
                others = self._running[: -len(lower)]
                if not self._places.has_one(request, others):
                    return
                if not fits_without(request, lower, len(others), self._cache):
                    return
                self._preempt(self._running.pop())
                while not self._admit(request):
                    self._preempt(self._running.pop())
            self._waiting.take(request)
            self._start(request)

    def _admit(self, request: Request) -> bool:
        has_place = len(self._running) < self._max_num_seqs and self._places.has_one(request, self._running)
        return has_place and admit(request, self._running, self._cache)

    def _next_waiting(self, prefills: deque[Request]) -> Request | None:
        """Who starts next, unless one that runs comes first."""
        if not self._waiting or len(self._running) >= self._max_num_seqs:
            return None
        first = self._waiting.startable(self._running)
        return first if first is None or not prefills or self._order(first) < self._order(prefills[0]) else None

    def _start(self, request: Request) -> None:
        request.phase = Phase.RUNNING
        insort(self._running, request, key=self._order)
        if request.num_preemptions == 0:
            request.num_cached_tokens = request.num_computed_tokens
            self._totals.num_prompt_tokens += request.num_prompt_tokens
            self._totals.num_cached_tokens += request.num_cached_tokens
        self._waiting.release_siblings(request)

    def _preempt(self, request: Request) -> None:
        """Back to the queue, behind only what came earlier. The caller has taken it out of `_running`."""
        self._cache.free(request)
        request.phase = Phase.WAITING
        request.num_preemptions += 1
        self._totals.num_preemptions += 1
        self._waiting.enqueue(request)

    def _end(self, request: Request, reason: FinishReason | None) -> None:
        """Forget a request and free its blocks; its held siblings get a new first one."""
        if request.phase is Phase.RUNNING:
            self._running.remove(request)
        else:
            self._waiting.remove(request)
        self._cache.free(request)
        request.phase = Phase.FINISHED
        request.finish_reason = reason
        self._drafts.forget(request)
        del self._requests[request.request_id]
        self._waiting.replace_first(request)
