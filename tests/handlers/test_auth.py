"""What is kept for a key belongs to that key, and does not tell it."""

from __future__ import annotations

from typing import Any

from starlette.types import Receive, Scope, Send

from specserve.handlers.auth import ApiKeyGuard
from specserve.handlers.context import OWNER_KEY, SCOPE_KEY, RequestIdentity

KEYS = ("key-1", "key-2")


async def owner_seen(header: str | None, path: str = "/v1/responses", *, name: bytes = b"authorization") -> str | None:
    """The owner that the guarded application finds; None when the request was refused."""
    seen: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope.get(OWNER_KEY, ""))

    async def send(message: Any) -> None:
        assert message["type"].startswith("http.response")

    async def receive() -> Any:
        raise AssertionError("the guard reads no body")

    headers = [] if header is None else [(name, header.encode())]
    identity = RequestIdentity("r", was_sent=False)
    scope = {"type": "http", "method": "GET", "path": path, "headers": headers, SCOPE_KEY: identity}
    await ApiKeyGuard(application, KEYS)(scope, receive, send)
    return seen[0] if seen else None


async def test_the_same_key_is_the_same_owner_however_it_is_written() -> None:
    assert await owner_seen("Bearer key-1") == await owner_seen("bearer  key-1 ")
    assert await owner_seen("Bearer key-1") == await owner_seen("key-1", name=b"x-api-key")


async def test_another_key_is_another_owner() -> None:
    first, second = await owner_seen("Bearer key-1"), await owner_seen("Bearer key-2")
    assert first
    assert second
    assert first != second


async def test_an_owner_does_not_show_the_key() -> None:
    assert "key-1" not in str(await owner_seen("Bearer key-1"))


async def test_who_is_refused_owns_nothing() -> None:
    assert await owner_seen("Bearer key-3") is None
    assert await owner_seen("Basic key-1") is None


async def test_open_paths_have_no_owner() -> None:
    assert await owner_seen("Bearer key-1", path="/health") == ""


async def test_every_websocket_needs_a_key() -> None:
    """Also on paths that are open to requests. A server without the extension for refusals answers 403."""
    sent: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        sent.append(scope[OWNER_KEY])

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def receive() -> Any:
        raise AssertionError("the guard reads nothing")

    for path in ("/", "/health", "/v1/responses"):
        scope = {"type": "websocket", "path": path, "headers": [], SCOPE_KEY: RequestIdentity("r", was_sent=False)}
        await ApiKeyGuard(application, KEYS)(scope, receive, send)
        await ApiKeyGuard(application, KEYS)({**scope, "extensions": {"websocket.http.response": {}}}, receive, send)
        assert sent == ["websocket.close", "websocket.http.response.start", "websocket.http.response.body"]
        sent.clear()
    await ApiKeyGuard(application, KEYS)({**scope, "headers": [(b"x-api-key", b"key-1")]}, receive, send)
    assert sent == [await owner_seen("Bearer key-1")]
