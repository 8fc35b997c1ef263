"""How long a request may take, from its arrival to the end of its answer: `--request-timeout`, and less by a header."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from starlette.types import Scope

from specserve.generated.errors import DeadlineExceeded, InvalidValue

T = TypeVar("T")

HEADER = "x-request-timeout-ms"
RAW_HEADER = HEADER.encode()
MAX_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Deadline:
    """`at` is a time of the event loop's clock, `source` what set it."""

    at: float
    timeout_s: float
    source: str

    @classmethod
    def of(cls, scope: Scope, limit_s: float | None) -> Deadline | None:
        """The earlier of the server's limit and the header's. None sets no limit. Raises InvalidValue."""
        source, timeout_s = "--request-timeout", limit_s
        for name, value in scope["headers"]:
            if name == RAW_HEADER:
                asked_s = read_header(value) / 1000
                if timeout_s is None or asked_s < timeout_s:
                    source, timeout_s = HEADER, asked_s
        if timeout_s is None:
            return None
        return cls(asyncio.get_running_loop().time() + timeout_s, timeout_s, source)

    async def wait(self, work: Awaitable[T]) -> T:
        """The result of `work`, which is cancelled at the deadline. Raises DeadlineExceeded."""
        try:
            async with asyncio.timeout_at(self.at) as scope:
                return await work
        except TimeoutError:
            if not scope.expired():
                raise
            raise self.exceeded() from None

    async def items(self, stream: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """The items of `stream` up to the deadline, when it is closed. Raises DeadlineExceeded."""
        async with aclosing(stream):
            while True:
                try:
                    item = await self.wait(anext(stream))
                except StopAsyncIteration:
                    return
                yield item

    def exceeded(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"the answer was not complete after {self.timeout_s:g} s ({self.source}); ask for fewer tokens, stream, "
            "or allow more time",
            headers={"Retry-After": "1"},
        )


def read_header(value: bytes) -> int:
    """Milliseconds. Raises InvalidValue."""
    milliseconds = int(value) if value.isdigit() and len(value) < 20 else 0
    if not 1 <= milliseconds <= MAX_MS:
        shown = value[:40].decode("latin-1")
        raise InvalidValue(
            f"{HEADER} is {shown!r}; it takes milliseconds, a whole number from 1 to {MAX_MS}", param=HEADER
        )
    return milliseconds
