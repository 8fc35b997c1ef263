"""WebSockets: who may open one, one turn after the other, and how it ends.

A turn is a message of the client's, and the events it is answered with, each a text message. What is wrong with a turn
is told as an error event and leaves the connection open. It ends when the client leaves, which aborts the answer under
way; when it is too old; and when the server drains, after the turn under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel
from starlette.types import Message, Receive, Scope, Send

from specserve.generated.base import ApiModel, Serialised
from specserve.generated.errors import (
    ApiError,
    DeadlineExceeded,
    InvalidRequest,
    RequestTooLarge,
    RouteNotFound,
    WebsocketConnectionLimitReached,
)
from specserve.handlers.context import OWNER_KEY, RequestContext, RequestIdentity, request_identity
from specserve.handlers.deadlines import Deadline
from specserve.handlers.envelopes import error_bytes
from specserve.handlers.errors import to_api_error
from specserve.handlers.first_use import with_models
from specserve.handlers.refused_upgrades import refuse_upgrade
from specserve.handlers.routing import Endpoint, current_task
from specserve.handlers.sse import payload_of
from specserve.handlers.unknown_fields import unknown_fields

logger = logging.getLogger(__name__)

Item = BaseModel | Serialised[Any]
MAX_WAITING = 64
"""Messages that may wait for their turn; together they may be as large as one. They are read at once all the same: what
is not read keeps the answers to pings back."""
NORMAL, GOING_AWAY, TOO_MUCH = 1000, 1001, 1008
MAX_ID_CHARS = 100


@dataclass(frozen=True, slots=True)
class Received:
    """A message that was understood: its body, the names nobody knows in it, and what it wants to be called."""

    body: ApiModel
    ignored: list[str]
    name: str | None = None


class Turns(Protocol):
    """What one connection is for."""

    def read(self, raw: bytes) -> Received:
        """Raises ApiError."""

    async def answer(self, body: ApiModel, context: RequestContext) -> AsyncGenerator[Item, None]:
        """The events of one turn. Raises what the turn is refused with."""

    async def failed(self, owner: str) -> None:
        """The turn that was read last was refused, or has ended with an error."""


class Gone(Exception):
    """The client has left."""


class Sockets:
    """All WebSockets, by path. Nothing else opens one."""

    def __init__(self, endpoints: Mapping[str, SocketEndpoint]) -> None:
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        endpoint = self._endpoints.get(path)
        if endpoint is None:
            here = ", ".join(self._endpoints)
            await refuse_upgrade(scope, send, RouteNotFound(f"no WebSocket is offered at {path[:200]}, but at {here}"))
        elif not is_own_page(scope):
            # A browser asks no server before it opens one, and sends what it knows: the user, but not the page.
            await send({"type": "websocket.close"})
        else:
            await endpoint.serve(scope, receive, send)


def is_own_page(scope: Scope) -> bool:
    """Whether no page of another server is behind this. Only browsers say where a page is from."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    origin = headers.get(b"origin")
    return origin is None or origin.partition(b"://")[2] == headers.get(b"host")


class SocketEndpoint:
    """The connections of one path. `endpoint` is the operation whose answers they carry, with its limits."""

    def __init__(self, endpoint: Endpoint, turns: Callable[[], Turns]) -> None:
        self._endpoint, self._turns = endpoint, turns
        self._open: set[Connection] = set()
        endpoint.readiness.when_draining(self._drain)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._endpoint.check_state()
        except ApiError as error:
            await refuse_upgrade(scope, send, error)
            return
        if (await receive())["type"] != "websocket.connect":
            return
        connection = Connection(self._endpoint, self._turns(), scope, receive, send)
        self._open.add(connection)
        try:
            await connection.serve()
        finally:
            self._open.discard(connection)

    def _drain(self) -> None:
        for connection in self._open:
            connection.end_soon()


class Connection:
    def __init__(self, endpoint: Endpoint, turns: Turns, scope: Scope, receive: Receive, send: Send) -> None:
        self._endpoint, self._turns, self._limits = endpoint, turns, endpoint.limits
        self._scope, self._receive, self._raw_send = scope, receive, send
        self._waiting: asyncio.Queue[str | None] = asyncio.Queue()
        self._num_chars_waiting = 0
        self._is_flooded = False
        self._num_turns = 0
        self._ends_at = asyncio.get_running_loop().time() + endpoint.limits.socket_age_s

    def end_soon(self) -> None:
        """After the turn under way; those that wait are refused by the state of the server."""
        self._waiting.put_nowait(None)

    async def serve(self) -> None:
        serving = current_task()
        reader = asyncio.create_task(self._read_all(serving))
        try:
            await self._send({"type": "websocket.accept"})
            await self._answer_all()
        except Gone:
            pass
        except asyncio.CancelledError:
            if not reader.done():
                raise  # it is the server that ends this connection
            serving.uncancel()
            if self._is_flooded:
                with suppress(Gone):
                    await self._close(TOO_MUCH, "too many messages wait; send the next when one is answered")
        finally:
            reader.cancel()

    async def _read_all(self, serving: asyncio.Task[Any]) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                serving.cancel()  # ends the answer wherever it is, which aborts in the engine
                return
            text = message.get("text") or ""
            self._num_chars_waiting += len(text)
            num_waiting, is_much = self._waiting.qsize(), self._num_chars_waiting > self._limits.max_body_bytes
            if num_waiting >= MAX_WAITING or (num_waiting and is_much):
                self._is_flooded = True
                serving.cancel()
                return
            self._waiting.put_nowait(text)

    async def _answer_all(self) -> None:
        while True:
            try:
                async with asyncio.timeout_at(self._ends_at):
                    text = await self._waiting.get()
            except TimeoutError:
                await self._close_old()
                return
            if text is None:
                await self._close(GOING_AWAY, "the server shuts down")
                return
            self._num_chars_waiting -= len(text)
            if asyncio.get_running_loop().time() >= self._ends_at:
                await self._close_old()
                return
            await self._turn(text)

    async def _close_old(self) -> None:
        age_s = self._limits.socket_age_s
        await self._send_error(
            WebsocketConnectionLimitReached(
                f"this connection has been open for {age_s:g} s, the limit; open another one, and continue from what "
                "is stored, or send the whole conversation"
            )
        )
        await self._close(NORMAL, "open for too long")

    async def _close(self, code: int, reason: str) -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def _turn(self, text: str) -> None:
        """One message and all its events."""
        self._num_turns += 1
        context = RequestContext(self._identity(), owner=self._scope.get(OWNER_KEY, ""))
        try:
            received = self._read(text, context)
            client = self._endpoint.shares.take(self._scope)
            try:
                async with aclosing(await self._answered(received, context)) as events:
                    async for event in events:
                        await self._send({"type": "websocket.send", "text": payload_of(event).decode()})
            finally:
                self._endpoint.shares.give_back(client)
        except Gone:
            raise
        except Exception as error:
            refusal = to_api_error(error, request_id=context.identity.id)
            await self._turns.failed(context.owner)
            await self._send_error(refusal)

    def _read(self, text: str, context: RequestContext) -> Received:
        """Raises what an HTTP request with this body would be refused with."""
        raw = text.encode("utf-8", "surrogatepass")
        if not raw:
            raise InvalidRequest("the message has no text; send JSON as a text message")
        if len(raw) > self._limits.max_body_bytes:
            raise RequestTooLarge(
                f"the message has {len(raw)} bytes, the limit is {self._limits.max_body_bytes}; send less at once"
            )
        context.num_body_bytes = len(raw)
        received = self._turns.read(raw)
        if received.ignored and self._limits.is_strict:
            raise unknown_fields(received.ignored, type(received.body))
        context.adopt_id(received.name, {**self._scope})
        return received

    async def _answered(self, received: Received, context: RequestContext) -> AsyncGenerator[Item, None]:
        self._endpoint.check_state()
        if DeadlineExceeded.code in self._endpoint.operation.refusals:
            context.deadline = Deadline.of(self._scope, self._limits.request_timeout_s)
        work, deadline = with_models(lambda: self._turns.answer(received.body, context)), context.deadline
        return await (work if deadline is None else deadline.wait(work))

    def _identity(self) -> RequestIdentity:
        """Each turn has its own; the first that of the connection."""
        whole = request_identity(self._scope)
        if self._num_turns == 1:
            return whole
        return RequestIdentity(f"{whole.id[:MAX_ID_CHARS]}-{self._num_turns}", whole.was_sent)

    async def _send_error(self, error: ApiError) -> None:
        envelope = error_bytes(error)
        event = b'{"type":"error","status":%d,%s' % (error.status, envelope.removeprefix(b"{"))
        await self._send({"type": "websocket.send", "text": event.decode()})

    async def _send(self, message: Message) -> None:
        try:
            await self._raw_send(message)
        except (OSError, RuntimeError) as error:  # the second after the server has given the client up
            raise Gone from error
