"""The bodies of requests on their way in: how large they may be, and how long they may take."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive, Scope

from specserve.generated.errors import RequestTooLarge, WrongMediaType

GIVEN_UP = float("inf")


class ClientGone(Exception):
    """The client left before its request was complete; there is nobody to answer."""


class OpenBodies:
    """None may take for ever, and none keeps a server that drains from ending.

    Most are there at once, so they have no timers of their own: one goes round among those that are not.
    """

    def __init__(self, *, max_bytes: int, timeout_s: float) -> None:
        self._max_bytes, self._timeout_s = max_bytes, timeout_s
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._round: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """Raises what `read_body` does, and TimeoutError at the deadline or when the bodies are given up.

        It may be noticed late by a twentieth of the time, a second at most.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        num_cancelled = task.cancelling()
        self._deadlines[task] = loop.time() + self._timeout_s
        if self._round is None or self._loop is not loop:
            self._loop = loop
            self._round = loop.call_later(min(self._timeout_s / 20, 1.0), self._go_round)
        try:
            return await read_body(scope, receive, max_bytes=self._max_bytes)
        except asyncio.CancelledError:
            if self._deadlines[task] == GIVEN_UP and task.uncancel() <= num_cancelled:
                raise TimeoutError from None
            raise
        finally:
            del self._deadlines[task]

    def _go_round(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for task, deadline in self._deadlines.items():
            if deadline <= now:
                self._give_up(task)
        self._round = None
        if self._deadlines:
            self._round = loop.call_later(min(self._timeout_s / 20, 1.0), self._go_round)

    def give_up(self) -> None:
        """Wait for no more pieces of those that are not complete."""
        for task, deadline in self._deadlines.items():
            if deadline != GIVEN_UP:
                self._give_up(task)

    def _give_up(self, task: asyncio.Task[Any]) -> None:
        self._deadlines[task] = GIVEN_UP
        task.cancel()


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int) -> bytes:
    """The whole body of a JSON request. Raises WrongMediaType, RequestTooLarge or ClientGone."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    sent_kind = headers.get(b"content-type", b"")
    if sent_kind != b"application/json":
        kind = sent_kind.decode("latin-1").partition(";")[0].strip().lower()
        if kind != "application/json":
            sent = f"not {kind[:80]}" if kind else "and there is no Content-Type header"
            raise WrongMediaType(f"the body must be sent as Content-Type: application/json, {sent}")
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced[:20]) > max_bytes:
        raise too_large(f"{announced[:20].decode()} bytes", max_bytes)
    pieces: list[bytes] = []
    num_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        num_bytes += len(piece)
        if num_bytes > max_bytes:
            raise too_large("more", max_bytes)
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


def too_large(size: str, max_bytes: int) -> RequestTooLarge:
    # The rest of the body will not be read, so the connection cannot carry another request.
    return RequestTooLarge(
        f"the body has {size}, the limit is {max_bytes} bytes; send less at once", headers={"Connection": "close"}
    )
