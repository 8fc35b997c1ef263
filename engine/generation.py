"""The answer of one request as an asynchronous stream, and how long an engine has been silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from types import TracebackType

from specserve.engine.api import GenerationOutput
from specserve.engine.errors import EngineError


class Generation(AsyncGenerator[GenerationOutput, None]):
    """The outputs of one request. A class and no generator function: closing it aborts even if it never ran."""

    def __init__(self, request_id: str, abort: Callable[[str], None]) -> None:
        """`abort` gets the id when the caller leaves; it ignores requests that have ended."""
        self._abort = abort
        self.request_id = request_id
        self._arrived: asyncio.Queue[GenerationOutput | EngineError] = asyncio.Queue()
        self._is_over = False

    def put(self, item: GenerationOutput | EngineError) -> None:
        self._arrived.put_nowait(item)

    async def asend(self, value: None) -> GenerationOutput:
        if self._is_over:
            raise StopAsyncIteration
        item = await self._arrived.get()
        if isinstance(item, EngineError):
            self._is_over = True
            raise item
        self._is_over = item.finish_reason is not None
        return item

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> GenerationOutput:
        self.close()
        raise typ

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        """Abort unless the request has ended."""
        self._is_over = True
        self._abort(self.request_id)


class Silence:
    """How long nothing has been heard, counted only while this process runs itself.

    Both processes may have been suspended, by a terminal or with the machine; that is not the engine's fault.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last_tick = time.monotonic()

    @staticmethod
    def tick_s(limit_s: float) -> float:
        return min(1.0, limit_s / 4)

    def tick(self) -> None:
        now = time.monotonic()
        self.seconds += min(now - self._last_tick, 2.0)
        self._last_tick = now

    def end(self) -> None:
        self.seconds = 0.0
        self._last_tick = time.monotonic()
