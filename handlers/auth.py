"""API keys: which paths need one, and a comparison that takes equally long whether a key is nearly right or not."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256

from starlette.types import ASGIApp, Receive, Scope, Send

from specserve.generated.errors import InvalidApiKey
from specserve.handlers.context import OWNER_KEY
from specserve.handlers.errors import send_error

GUARDED_PREFIXES = ("/v1", "/v2")
"""A plain prefix test, before routing: an unknown path below them says nothing without a key either."""


class ApiKeyGuard:
    """Answers 401 unless one of `keys` comes as a bearer token. Only digests of the keys are kept."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self.app = app
        self._digests = [sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.is_guarded(scope):
            if self.is_allowed(scope):
                scope[OWNER_KEY] = owner_of(sent_key(scope)[1])
                await self.app(scope, receive, send)
                return
            sent_one = any(name == b"authorization" for name, _ in scope["headers"])
            problem = "the API key is not one of this server's" if sent_one else "this server needs an API key"
            refusal = InvalidApiKey(
                f"{problem}; send it as 'Authorization: Bearer <key>'", headers={"WWW-Authenticate": "Bearer"}
            )
            await send_error(send, refusal)
            return
        await self.app(scope, receive, send)

    def is_guarded(self, scope: Scope) -> bool:
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        # A preflight request cannot carry a key.
        return scope["method"] != "OPTIONS" and path.startswith(GUARDED_PREFIXES)

    def is_allowed(self, scope: Scope) -> bool:
        scheme, key = sent_key(scope)
        digest = sha256(key).digest()
        # Every key is compared, so the time does not tell which one was near.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches) and scheme == b"bearer"


def sent_key(scope: Scope) -> tuple[bytes, bytes]:
    """The scheme in small letters and the key, as they were sent; empty where nothing was."""
    sent: bytes = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, key = sent.partition(b" ")
    return scheme.lower(), key.strip()


def owner_of(key: bytes) -> str:
    """What stands for a key where the key itself must not be kept. Another digest than the guard compares."""
    return sha256(b"owner of responses\0" + key).hexdigest()
