"""The Responses API over a WebSocket: what a client sends there, and what one connection remembers.

A `response.create` is the body of `POST /v1/responses` with a type, and its events are those of a stream. Responses
with `store: false` can be continued on the connection that made them, until a continuation fails.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from specserve.generated import schemas
from specserve.generated.base import ApiModel, Serialised
from specserve.generated.errors import (
    ApiError,
    InvalidValue,
    MissingRequiredParameter,
    PreviousResponseNotFound,
    ResponseNotFound,
    UnsupportedParameter,
    UnsupportedValue,
)
from specserve.handlers.context import RequestContext
from specserve.handlers.openai.responses.handler import Responses
from specserve.handlers.openai.responses.store import MemoryStore, StoreLimits
from specserve.handlers.sockets import Item, Received
from specserve.handlers.violations import described
from specserve.handlers.wire import parse_object, read_object

StreamedEvent = schemas.ResponseStreamEvent | Serialised[schemas.ResponseStreamEvent]
CREATE = "response.create"
REMEMBERED = StoreLimits(entries=16, num_bytes=32 * 1024 * 1024, age_s=None)
"""What a connection keeps of its responses with `store: false`."""


class ResponseSocket:
    """One connection's turns. Implements `sockets.Turns`."""

    def __init__(self, responses: Responses, remembered: StoreLimits = REMEMBERED) -> None:
        self._own = MemoryStore(remembered)
        self._responses = responses.on_connection(self._own)
        self._continued: str | None = None
        """The response that the turn under way continues."""

    def read(self, raw: bytes) -> Received:
        """Raises ApiError: what the body deserves, and what has no meaning on a connection."""
        self._continued = None
        data = read_object(raw)
        previous = data.get("previous_response_id")
        self._continued = previous if isinstance(previous, str) else None
        check_type(data.pop("type", None))
        check_transport(data)
        body, ignored = parse_object({**data, "stream": True}, schemas.ResponseRequest)
        return Received(body, ignored, body.request_id)

    async def answer(self, body: ApiModel, context: RequestContext) -> AsyncGenerator[Item, None]:
        assert isinstance(body, schemas.ResponseRequest)
        try:
            answered = await self._responses.create_response(body, context)
        except ResponseNotFound as error:
            raise PreviousResponseNotFound(error.message, param=error.param) from None
        assert isinstance(answered, AsyncGenerator)
        return self._watched(answered, context.owner)

    async def _watched(
        self, events: AsyncGenerator[StreamedEvent, None], owner: str
    ) -> AsyncGenerator[StreamedEvent, None]:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, schemas.ResponseFailedEvent):
                    await self.failed(owner)
                yield event

    async def failed(self, owner: str) -> None:
        """A continuation that failed takes what it continued with it, unless that is stored."""
        if self._continued is not None:
            await self._own.delete(owner, self._continued)


def check_type(kind: Any) -> None:
    if kind is None:
        raise MissingRequiredParameter(f"type is missing; send {CREATE}", param="type")
    if kind != CREATE:
        shown = repr(kind[:80]) if isinstance(kind, str) else described(kind)
        raise InvalidValue(f"type is {shown}; this connection takes {CREATE}", param="type")


def check_transport(data: dict[str, Any]) -> None:
    """Fields that say how an answer is to come. Raises ApiError for those that a connection cannot follow."""
    if data.get("background"):
        raise UnsupportedValue(
            "background is not for WebSockets, where the answer comes at once; send it to POST /v1/responses",
            param="background",
        )
    if data.get("stream") is False:
        raise UnsupportedValue(
            "stream is false, but a WebSocket carries events only; leave it out, or use POST /v1/responses",
            param="stream",
        )
    for name, reason in (
        ("stream_id", "a connection makes one response after the other; open several for several at once"),
        ("generate", "there is nothing to warm up; send the whole request"),
    ):
        if data.pop(name, None) not in (None, True):
            raise unsupported(name, reason)


def unsupported(name: str, reason: str) -> ApiError:
    return UnsupportedParameter(f"{name} is not offered: {reason}", param=name)
