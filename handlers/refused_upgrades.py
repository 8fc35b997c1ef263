"""The handshake of a WebSocket, answered with an error as an HTTP request would be."""

from __future__ import annotations

from starlette.types import Message, Scope, Send

from specserve.generated.errors import ApiError
from specserve.handlers.context import request_identity
from specserve.handlers.envelopes import envelope_of
from specserve.handlers.errors import send_error

EXTENSION = "websocket.http.response"


async def refuse_upgrade(scope: Scope, send: Send, error: ApiError) -> None:
    """Nothing may have been sent before. Under a server that lacks the extension for it, a 403 without a body."""
    if EXTENSION not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close"})
        return

    async def send_denial(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    path = scope["path"].removeprefix(scope.get("root_path", ""))
    await send_error(send_denial, error, envelope=envelope_of(path), request_id=request_identity(scope).id)
