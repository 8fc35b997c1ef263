"""Calls of `Engine.pool` that wait for their results: many inputs, one await."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from specserve.engine.api import PoolingOutput, PoolingRequest
from specserve.engine.batch import RequestProgress
from specserve.engine.errors import EngineError, InvalidParameterError, RequestError


class PoolingCall:
    """The inputs of one call. Await it; cancelling aborts what is not finished."""

    def __init__(self, requests: Sequence[PoolingRequest], abort: Callable[[Iterable[str]], None]) -> None:
        self._requests = {request.request_id: request for request in requests}
        self._outputs: dict[str, PoolingOutput] = {}
        self._abort = abort
        self._result: asyncio.Future[list[PoolingOutput]] = asyncio.get_running_loop().create_future()

    @property
    def unfinished(self) -> list[str]:
        return [request_id for request_id in self._requests if request_id not in self._outputs]

    @property
    def is_over(self) -> bool:
        return self._result.done()

    async def wait(self) -> list[PoolingOutput]:
        try:
            return await self._result
        finally:
            if self._result.cancelled():
                self._abort(self.unfinished)

    def take(self, progress: RequestProgress) -> None:
        """The result of one input. An error ends the call; the caller aborts the siblings."""
        if self.is_over:
            return
        if progress.error is not None or progress.pooled is None:
            reason = progress.error or "the engine returned no result for this input"
            self.fail(RequestError(reason) if progress.is_refusal else EngineError(reason))
            return
        self._outputs[progress.request_id] = PoolingOutput(
            request_id=progress.request_id,
            data=progress.pooled.unpack(),
            num_prompt_tokens=len(self._requests[progress.request_id].prompt_token_ids),
            num_cached_tokens=progress.num_cached_tokens,
        )
        if len(self._outputs) == len(self._requests):
            self._result.set_result([self._outputs[request_id] for request_id in self._requests])

    def fail(self, error: EngineError) -> None:
        if not self.is_over:
            self._result.set_exception(error)


class PoolingCalls:
    """All open calls, and which of them an input belongs to."""

    def __init__(self, abort: Callable[[Iterable[str]], None]) -> None:
        """`abort` gets the ids of inputs that the engine knows and nobody waits for any more."""
        self._tell_engine = abort
        self._calls: dict[str, PoolingCall] = {}
        self._open: set[PoolingCall] = set()

    def __len__(self) -> int:
        """Calls, whatever the number of their inputs."""
        return len(self._open)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._calls

    def add(self, requests: Sequence[PoolingRequest]) -> PoolingCall:
        """Raises InvalidParameterError when two inputs have one id."""
        if len({request.request_id for request in requests}) < len(requests):
            raise InvalidParameterError("two inputs have the same request_id", param="request_id")
        call = PoolingCall(requests, self._drop)
        self._open.add(call)
        self._calls |= dict.fromkeys((request.request_id for request in requests), call)
        return call

    def take(self, progress: RequestProgress) -> None:
        """Progress of an input; that of a call which has been left is ignored."""
        call = self._calls.pop(progress.request_id, None)
        if call is None:
            return
        call.take(progress)
        if progress.error is not None:
            self._drop(call.unfinished)
        elif call.is_over:
            self._open.discard(call)

    def fail_all(self, error: Callable[[], EngineError]) -> None:
        self._calls.clear()
        while self._open:
            self._open.pop().fail(error())

    def _drop(self, request_ids: Iterable[str]) -> None:
        known = []
        for request_id in request_ids:
            if (call := self._calls.pop(request_id, None)) is not None:
                self._open.discard(call)
                known.append(request_id)
        if known:
            self._tell_engine(known)
