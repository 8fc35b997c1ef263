"""Around every request: its id, one line in the access log, and the last resort against unforeseen exceptions."""

from __future__ import annotations

import logging
from secrets import token_hex
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from specserve.handlers.context import SAFE_ID, SCOPE_KEY, RequestIdentity, request_identity
from specserve.handlers.envelopes import MESSAGES, envelope_of
from specserve.handlers.errors import send_error, to_api_error
from specserve.handlers.log_lines import write_line

access_log = logging.getLogger("specserve.access")

CLIENT_LEFT = 499
"""Logged, never sent: the client left before the answer began."""
SWITCHED, FORBIDDEN = 101, 403
ANSWERED = ("http", "websocket")
BEGINNINGS = frozenset(("http.response.start", "websocket.accept", "websocket.http.response.start"))


def identify(scope: Scope) -> RequestIdentity:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SAFE_ID.fullmatch(sent := value.decode("latin-1")):
            return RequestIdentity(sent, was_sent=True)
    return RequestIdentity(token_hex(16), was_sent=False)


class RequestLog:
    """Pure ASGI, outermost: it adds nothing to a streamed chunk but one function call."""

    def __init__(self, app: ASGIApp, unlogged_paths: frozenset[str] = frozenset()) -> None:
        self.app, self._unlogged_paths = app, unlogged_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ANSWERED:
            await self.app(scope, receive, send)
            return
        scope[SCOPE_KEY] = identify(scope)
        envelope = envelope_of(scope["path"].removeprefix(scope.get("root_path", "")))
        status = CLIENT_LEFT
        began = perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            kind = message["type"]
            if kind == "websocket.close" and status == CLIENT_LEFT:
                status = FORBIDDEN  # what a handshake that is not accepted is answered with
            elif kind in BEGINNINGS:
                status = message.get("status", SWITCHED)
                took_ms = int((perf_counter() - began) * 1000)
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_identity(scope).id.encode("ascii")),
                    (b"openai-processing-ms", b"%d" % took_ms),
                ]
                if envelope == MESSAGES:  # its clients know the id by this name
                    message["headers"].append((b"request-id", request_identity(scope).id.encode("ascii")))
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            refusal = to_api_error(error, request_id=request_identity(scope).id)
            if status == CLIENT_LEFT and scope["type"] == "http":
                await send_error(send_with_id, refusal, envelope=envelope, request_id=request_identity(scope).id)
        finally:
            if scope["path"] not in self._unlogged_paths:
                took_ms = (perf_counter() - began) * 1000
                write_line(
                    access_log,
                    f"method={scope.get('method', 'WEBSOCKET')} path={printable(scope['path'])} status={status} "
                    f"duration_ms={took_ms:.1f} request_id={request_identity(scope).id}",
                )


def printable(path: str) -> str:
    """A path chosen by a client, on one line of the log and without control characters."""
    if path.isascii() and path.isprintable() and " " not in path and len(path) <= 200:
        return path
    return "".join(c if c.isprintable() and not c.isspace() else "?" for c in path[:200])
