"""The Responses API over a WebSocket: what a client sends there, and what one connection remembers.

A `response.create` is the body of `POST /v1/responses` with a type, and its events are those of a stream. Responses
with `store: false` can be continued on the connection that made them, until a continuation fails.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from pydantic import BaseModel

from specserve.generated import schemas
from specserve.generated.base import Serialised
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

CREATE = "response.create"
REMEMBERED = StoreLimits(entries=16, num_bytes=32 * 1024 * 1024, age_s=None)
"""What a connection keeps of its responses with `store: false`."""


class ResponseSocket:
    """One connection's turns. Implements `sockets.Turns`."""

    def __init__(self, responses: Responses, remembered: StoreLimits = REMEMBERED) -> None:
        self._own = MemoryStore(remembered)
        self._responses = responses.on_connection(self._own)

    def read(self, raw: bytes) -> Received:
        """Raises ApiError: what the body deserves, and what has no meaning on a connection."""
        data = read_object(raw)
        check_type(data.pop("type", None))
        check_transport(data)
        body, ignored = parse_object({**data, "stream": True}, schemas.ResponseRequest)
        return Received(body, ignored, body.request_id)

    async def answer(self, body: BaseModel, context: RequestContext) -> AsyncGenerator[Item, None]:
        assert isinstance(body, schemas.ResponseRequest)
        try:
            answered = await self._responses.create_response(body, context)
        except Exception as error:
            await self._forget(body, context)
            if isinstance(error, ResponseNotFound) and error.param == "previous_response_id":
                raise PreviousResponseNotFound(error.message, param=error.param) from None
            raise
        assert isinstance(answered, AsyncGenerator)
        return self._watched(answered, body, context)

    async def _watched(
        self,
        events: AsyncIterator[schemas.ResponseStreamEvent | Serialised[schemas.ResponseStreamEvent]],
        body: schemas.ResponseRequest,
        context: RequestContext,
    ) -> AsyncGenerator[Item, None]:
        assert isinstance(events, AsyncGenerator)
        try:
            async for event in events:
                if isinstance(event, schemas.ResponseFailedEvent):
                    await self._forget(body, context)
                yield event
        except Exception:
            await self._forget(body, context)
            raise
        finally:
            await events.aclose()

    async def _forget(self, body: schemas.ResponseRequest, context: RequestContext) -> None:
        """A continuation that failed takes what it continued with it, unless that is stored."""
        if body.previous_response_id is not None:
            await self._own.delete(context.owner, body.previous_response_id)


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
