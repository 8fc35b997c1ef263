"""Who computes how many tokens in the next step. Plain Python: no tensors, no text.

There is one kind of step: first every running sequence that lacks a single token (decodes), then chunks of
those that lack more (prefill), within one token budget. Requests are served in the order (priority, arrival);
a running request gives way only when an earlier one finds no block.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Sequence

from specserve.engine.api import FinishReason
from specserve.engine.batch import RequestProgress, ScheduledBatch, ScheduledRequest, StepOutput
from specserve.engine.errors import InvalidParameterError, PromptTooLongError, RequestError
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.request import Phase, Request
from specserve.engine.stats import EngineStats


def _order(request: Request) -> tuple[int, int]:
    return request.priority, request.arrival


class Scheduler:
    """Owns all requests between `add` and their end. Synchronous and single-threaded; the caller alternates
    `schedule` and `update`, with `add` and `abort` at any time.

    max_num_seqs             sequences that hold blocks at once
    max_num_batched_tokens   tokens of one step; at least max_num_seqs, so that every decode fits
    max_model_len            tokens of a sequence, prompt and answer together
    eos_token_ids            the model's end tokens: they end a sequence with `stop_reason` None unless
                             `ignore_eos`

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
        self._requests: dict[str, Request] = {}
        self._running: list[Request] = []  # both sorted by _order
        self._waiting: list[Request] = []
        self._siblings: dict[str, list[Request]] = {}  # by the id of the first, until its prompt is computed
        self._in_flight: set[str] = set()
        self._aborted_in_flight: set[str] = set()
        self._num_arrivals = 0
        self._num_steps = 0
        self._num_prompt_tokens = 0
        self._num_cached_tokens = 0
        self._num_generated_tokens = 0
        self._num_preemptions = 0
        self._num_aborted = 0

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
            if (refusal := self._refusal(request)) is not None:
                refused.append(_error_progress(request, refusal.message))
                continue
            request.arrival = self._num_arrivals
            self._num_arrivals += 1
            request.max_num_tokens = min(request.num_prompt_tokens + request.params.max_tokens, self.max_sequence_len)
            self._requests[request.request_id] = request
            first = first_of.setdefault(request.parent_id or request.request_id, request)
            if first is not request and self._shares_prompt(first, request):
                self._siblings.setdefault(first.request_id, []).append(request)
            else:
                insort(self._waiting, request, key=_order)
        return refused

    def abort(self, request_ids: Iterable[str]) -> None:
        """End requests without a further word about them; unknown ids are ignored, they may just have
        finished.

        Blocks are free at once, or after the step for a request that is being computed.
        """
        for request_id in request_ids:
            request = self._requests.get(request_id)
            if request is None or request_id in self._aborted_in_flight:
                continue
            self._num_aborted += 1
            if request_id in self._in_flight:
                self._aborted_in_flight.add(request_id)
            else:
                self._end(request, FinishReason.ABORT)

    def schedule(self) -> ScheduledBatch:
        """Choose the next step's tokens and make sure that their slots exist. An empty batch means nothing to
        do.

        Requests with a single token come first, each group in order.
        """
        if self._in_flight:
            raise RuntimeError("schedule() before update() of the last batch")
        single: list[ScheduledRequest] = []
        chunks: list[ScheduledRequest] = []
        self._schedule_decodes(single)
        budget = self._max_num_batched_tokens - len(single)
        prefills = deque(r for r in self._running if r.num_tokens - r.num_computed_tokens > 1)
        admitting = True
        while budget > 0:
            if admitting and self._next_is_waiting(prefills):
                request = self._waiting[0]
                admitting = self._admit(request)
                if not admitting:
                    continue
                del self._waiting[0]
                self._start(request)
            elif prefills:
                request = prefills.popleft()
            else:
                break
            start = request.num_computed_tokens
            num_new_tokens = min(request.num_tokens - start, budget)
            samples = start + num_new_tokens == request.num_tokens
            group = single if num_new_tokens == 1 else chunks
            group.append(ScheduledRequest(request, start, num_new_tokens, samples))
            budget -= num_new_tokens
        scheduled = single + chunks
        self._in_flight.update(item.request.request_id for item in scheduled)
        return ScheduledBatch(scheduled, self._max_num_batched_tokens - budget)

    def update(self, batch: ScheduledBatch, output: StepOutput) -> list[RequestProgress]:
        """Take in what a step computed; requests that ended have given their blocks back when this returns.

        One progress for each request that sampled a token or failed. A sampling request that `output` does
        not mention is a KeyError: the runner's fault.
        """
        self._num_steps += 1
        self._in_flight.clear()
        progress: list[RequestProgress] = []
        for item in batch.requests:
            request = item.request
            if request.request_id in self._aborted_in_flight:
                self._end(request, FinishReason.ABORT)
            elif (reason := output.failed.get(request.request_id)) is not None:
                # What it computed may not be finite: nobody else shall find it.
                self._cache.discard(request)
                self._end(request, None)
                progress.append(_error_progress(request, reason))
            else:
                request.num_computed_tokens += item.num_new_tokens
                self._cache.cache_full_blocks(request)
                if self._siblings:
                    self._release_siblings(request)
                if item.samples:
                    progress.append(self._append(request, output))
        self._aborted_in_flight.clear()
        return progress

    def stats(self) -> EngineStats:
        return EngineStats(
            num_steps=self._num_steps,
            num_running=len(self._running),
            num_waiting=len(self._requests) - len(self._running),
            num_blocks=self._cache.num_usable_blocks,
            num_used_blocks=self._cache.num_used_blocks,
            num_prompt_tokens=self._num_prompt_tokens,
            num_cached_tokens=self._num_cached_tokens,
            num_generated_tokens=self._num_generated_tokens,
            num_preemptions=self._num_preemptions,
            num_aborted=self._num_aborted,
        )

    def _refusal(self, request: Request) -> RequestError | None:
        num_tokens = request.num_prompt_tokens
        if num_tokens < 1:
            return InvalidParameterError("prompt has no tokens, at least 1 is needed", param="prompt")
        if num_tokens >= self._max_model_len:
            return PromptTooLongError(num_tokens, self._max_model_len, param="prompt")
        capacity = self._cache.capacity_tokens
        if num_tokens >= capacity:
            return InvalidParameterError(
                f"prompt has {num_tokens} tokens, but the whole KV cache holds {capacity} "
                f"({self._cache.num_usable_blocks} blocks of {self._cache.block_size}) and one is needed "
                "for the answer; shorten it or give the server more KV cache memory",
                param="prompt",
            )
        return None

    def _shares_prompt(self, first: Request, request: Request) -> bool:
        return (
            self._cache.enable_prefix_caching
            and self._num_shareable(first) > 0
            and request.cache_salt == first.cache_salt
            and request.token_ids == first.token_ids
        )

    def _num_shareable(self, request: Request) -> int:
        """Tokens of the prompt that a sibling can find: full blocks, but never the last token."""
        return (request.num_prompt_tokens - 1) // self._cache.block_size * self._cache.block_size

    def _schedule_decodes(self, single: list[ScheduledRequest]) -> None:
        running = self._running
        index = 0
        while index < len(running):
            request = running[index]
            start = request.num_computed_tokens
            if request.num_tokens - start == 1:
                while not self._cache.allocate_slots(request, 1):
                    victim = running.pop()  # never one that is scheduled already: those come earlier in order
                    self._preempt(victim)
                    if victim is request:
                        return
                single.append(ScheduledRequest(request, start, 1, True))
            index += 1

    def _next_is_waiting(self, prefills: deque[Request]) -> bool:
        if not self._waiting or len(self._running) >= self._max_num_seqs:
            return False
        return not prefills or _order(self._waiting[0]) < _order(prefills[0])

    def _admit(self, request: Request) -> bool:
        """Give a waiting request blocks for all its known tokens, unless that would soon cost a preemption.

        Free blocks are left for the growth of everyone then running: at first one each, twice as many after
        every preemption of this request, never more than each can still need. So a request is preempted only
        a few times, however tight the pool. A request that would run alone needs no such reserve.
        """
        cache = self._cache
        computed = cache.get_computed_blocks(request)
        num_new_tokens = request.num_tokens - len(computed) * cache.block_size
        share = 1 << min(request.num_preemptions, 30) if self._running else 0
        if cache.allocate_slots(request, num_new_tokens, computed, share * (len(self._running) + 1)):
            return True
        growth = [cache.num_blocks_for(r.max_num_tokens) - len(r.block_table) for r in self._running]
        growth.append(cache.num_blocks_for(request.max_num_tokens) - cache.num_blocks_for(request.num_tokens))
        return cache.allocate_slots(request, num_new_tokens, computed, sum(min(share, blocks) for blocks in growth))

    def _start(self, request: Request) -> None:
        request.phase = Phase.RUNNING
        insort(self._running, request, key=_order)
        if request.num_preemptions == 0:
            request.num_cached_tokens = request.num_computed_tokens
            self._num_prompt_tokens += request.num_prompt_tokens
            self._num_cached_tokens += request.num_cached_tokens
        self._release_siblings(request)

    def _preempt(self, request: Request) -> None:
        """Back to the queue, behind only what came earlier. The caller has taken it out of `_running`."""
        self._cache.free(request)
        request.phase = Phase.WAITING
        request.num_preemptions += 1
        self._num_preemptions += 1
        insort(self._waiting, request, key=_order)

    def _release_siblings(self, first: Request) -> None:
        if first.request_id in self._siblings and first.num_computed_tokens >= self._num_shareable(first):
            for sibling in self._siblings.pop(first.request_id):
                insort(self._waiting, sibling, key=_order)

    def _append(self, request: Request, output: StepOutput) -> RequestProgress:
        sampled = output.sampled[request.request_id]
        request.token_ids.append(sampled.token_id)
        self._num_generated_tokens += 1
        reason = self._finish_reason(request, sampled.token_id)
        if reason is not None:
            self._end(request, reason)
        return RequestProgress(
            request_id=request.request_id,
            token_ids=[sampled.token_id],
            logprobs=None if sampled.logprobs is None else [sampled.logprobs],
            finish_reason=reason,
            stop_reason=request.stop_reason,
            num_cached_tokens=request.num_cached_tokens,
        )

    def _finish_reason(self, request: Request, token_id: int) -> FinishReason | None:
        params = request.params
        if request.num_generated_tokens >= params.min_tokens:
            if token_id in self._eos_token_ids and not params.ignore_eos:
                return FinishReason.STOP
            if token_id in params.stop_token_ids:
                request.stop_reason = token_id
                return FinishReason.STOP
        return FinishReason.LENGTH if request.num_tokens >= request.max_num_tokens else None

    def _end(self, request: Request, reason: FinishReason | None) -> None:
        """Forget a request and free its blocks; its held siblings get a new first one."""
        if request.phase is Phase.RUNNING:
            self._running.remove(request)
        elif request in self._waiting:
            self._waiting.remove(request)
        else:
            next(held for held in self._siblings.values() if request in held).remove(request)
        self._cache.free(request)
        request.phase = Phase.FINISHED
        request.finish_reason = reason
        del self._requests[request.request_id]
        if heirs := self._siblings.pop(request.request_id, None):
            insort(self._waiting, heirs[0], key=_order)
            if len(heirs) > 1:
                self._siblings[heirs[0].request_id] = heirs[1:]


def _error_progress(request: Request, message: str) -> RequestProgress:
    return RequestProgress(
        request_id=request.request_id,
        token_ids=[],
        logprobs=None,
        finish_reason=None,
        stop_reason=None,
        num_cached_tokens=request.num_cached_tokens,
        error=message,
    )
