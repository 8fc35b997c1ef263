"""Server-sent events: one answer as a stream that always says how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from time import monotonic
from typing import Any, Generic, TypeVar
from uuid import uuid4

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.types import Send

from specserve.generated.base import Serialised
from specserve.generated.errors import ApiError
from specserve.handlers.envelopes import OPENAI, error_bytes
from specserve.handlers.errors import send_error

M = TypeVar("M", bound=BaseModel)

KEEP_ALIVE = b": keep-alive\n\n"
END_MARK = b"data: [DONE]\n\n"
HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # asks nginx and its relatives not to collect the events
}


NO_USAGE = b'"usage":null'


class TextEvents(Generic[M]):
    """Events that differ in one text, and maybe in their usage, only; what is around them is serialised once."""

    def __init__(self, event_with: Callable[[str], M]) -> None:
        """`event_with` makes the event with a given text, which may be in it in several places.

        Events that are to have a usage have the null there, behind all text.
        """
        mark = uuid4().hex
        made = event_with(mark)
        self._name = getattr(made, "type", "")
        self._around = payload_of(made).split(to_json(mark))
        before, _, self._after_usage = self._around[-1].rpartition(NO_USAGE)
        self._before_usage = [*self._around[:-1], before + b'"usage":']

    def __call__(self, text: str, usage: bytes | None = None) -> Serialised[M]:
        """As `event_with(text)`, at a twentieth of the cost. `usage` is its JSON."""
        if usage is None:
            return Serialised(to_json(text).join(self._around), self._name)
        return Serialised(to_json(text).join(self._before_usage) + usage + self._after_usage, self._name)


def payload_of(item: BaseModel | Serialised[Any]) -> bytes:
    """The JSON of a reply or an event, without what was not said."""
    if isinstance(item, Serialised):
        return item.json
    return item.__pydantic_serializer__.to_json(item, exclude_unset=True, by_alias=True)


def event(payload: bytes, name: str = "") -> bytes:
    """One frame, to be sent in one write: clients exist that lose what comes in two."""
    return b"%sdata: %s\n\n" % (b"event: %s\n" % name.encode() if name else b"", payload)


def name_of(item: BaseModel | Serialised[Any]) -> str:
    name: str = item.event if isinstance(item, Serialised) else item.type  # type: ignore[attr-defined]
    return name


class EventStream:
    """Sends `items` as events, one frame each, then the end mark.

    The headers wait for the first item, so that a refusal is still a proper status, but never longer than
    `keep_alive_s`: after that the stream opens with a comment. An error after the headers becomes one last event
    with the error envelope, followed by the end mark: a broken stream never looks complete or stays open.
    `is_named`: every event has its type on a line of its own.
    """

    def __init__(
        self,
        send: Send,
        *,
        end_mark: bool,
        keep_alive_s: float,
        to_error: Callable[[Exception], ApiError],
        headers: Mapping[str, str],
        is_named: bool = False,
        envelope: str = OPENAI,
        request_id: str = "",
    ) -> None:
        self._send = send
        self._is_named = is_named
        self._end = END_MARK if end_mark else b""
        self._keep_alive_s = keep_alive_s
        self._to_error = to_error
        self._headers = headers
        self._envelope, self._request_id = envelope, request_id
        self._is_open = False
        self._last_sent = monotonic()
        self._writing = asyncio.Lock()  # answer and keep-alive take turns, also while the client reads slowly

    async def send_all(self, items: AsyncGenerator[BaseModel | Serialised[Any], None]) -> None:
        """Returns when the answer is complete. Cancelling it leaves the stream as it is: the client has gone."""
        pings = asyncio.create_task(self._ping())
        try:
            async with aclosing(items):  # leaving early, for whatever reason, aborts in the engine
                async for item in items:
                    await self._write(event(payload_of(item), name_of(item) if self._is_named else ""))
            last = self._end
        except Exception as error:  # whatever it is, the client learns that the answer is broken
            refusal = self._to_error(error)
            async with self._writing:
                pings.cancel()
                if not self._is_open:
                    await send_error(
                        self._send, refusal, self._headers, envelope=self._envelope, request_id=self._request_id
                    )
                    return
            raw = error_bytes(refusal, envelope=self._envelope, request_id=self._request_id)
            last = event(raw, "error" if self._is_named else "") + self._end
        finally:
            pings.cancel()
        await self._write(last, more=False)

    async def _write(self, data: bytes, *, more: bool = True) -> None:
        async with self._writing:
            if not self._is_open:
                self._is_open = True
                head = {**HEADERS, **self._headers}
                raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head.items()]
                await self._send({"type": "http.response.start", "status": 200, "headers": raw})
            self._last_sent = monotonic()
            await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _ping(self) -> None:
        while True:
            quiet_s = monotonic() - self._last_sent
            if quiet_s >= self._keep_alive_s:
                await self._write(KEEP_ALIVE)
                quiet_s = 0.0
            await asyncio.sleep(self._keep_alive_s - quiet_s)
