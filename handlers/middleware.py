"""Around every request: its id, one line in the access log, and the last resort against unforeseen exceptions."""

from __future__ import annotations

import logging
import re
from time import perf_counter
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from specserve.handlers.context import SCOPE_KEY, RequestIdentity
from specserve.handlers.errors import send_error, to_api_error

access_log = logging.getLogger("specserve.access")

# An id is repeated in headers, bodies and logs, so it must not be able to break out of any of them.
SAFE_ID = re.compile(rb"[A-Za-z0-9._\-]{1,128}")
CLIENT_LEFT = 499
"""Logged, never sent: the client left before the answer began."""


def identify(scope: Scope) -> RequestIdentity:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SAFE_ID.fullmatch(value):
            return RequestIdentity(value.decode("ascii"), was_sent=True)
    return RequestIdentity(uuid4().hex, was_sent=False)


class RequestLog:
    """Pure ASGI, outermost: it adds nothing to a streamed chunk but one function call."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        identity = identify(scope)
        scope[SCOPE_KEY] = identity
        header = (b"x-request-id", identity.id.encode("ascii"))
        status = CLIENT_LEFT
        began = perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], header]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            refusal = to_api_error(error, request_id=identity.id)
            if status == CLIENT_LEFT:
                await send_error(send_with_id, refusal)
        finally:
            access_log.info(
                "method=%s path=%s status=%d duration_ms=%.1f request_id=%s",
                scope["method"],
                printable(scope["path"]),
                status,
                (perf_counter() - began) * 1000,
                identity.id,
            )


def printable(path: str) -> str:
    """A path chosen by a client, on one line of the log and without control characters."""
    if path.isascii() and path.isprintable() and " " not in path and len(path) <= 200:
        return path
    return "".join(c if c.isprintable() and not c.isspace() else "?" for c in path[:200])
