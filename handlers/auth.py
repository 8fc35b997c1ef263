"""API keys: which paths need one, and a comparison that takes equally long whether a key is nearly right or not."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256

from starlette.types import ASGIApp, Receive, Scope, Send

from specserve.generated.errors import InvalidApiKey
from specserve.handlers.context import OWNER_KEY, request_identity
from specserve.handlers.envelopes import envelope_of
from specserve.handlers.errors import send_error
from specserve.handlers.refused_upgrades import refuse_upgrade

GUARDED_PREFIXES = ("/v1", "/v2", "/pooling", "/classify", "/score", "/rerank")
"""All that makes the model work beside what clients expect to be open. A plain prefix test, before routing: an unknown
path below them says nothing without a key either."""
KEY_HEADERS = frozenset((b"authorization", b"x-api-key"))
"""Clients of Anthropic's protocol put their key into the second one, without a scheme."""
MAX_KEYS = 2
"""Keys of one request that are looked at."""


class ApiKeyGuard:
    """Answers 401 unless one of `keys` comes as a bearer token, or as x-api-key. Only digests of the keys are kept."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self.app = app
        self._digests = [sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and self.is_guarded(scope):
            allowed = [key for key in sent_keys(scope) if self.is_known(key)]
            if allowed:
                scope[OWNER_KEY] = owner_of(allowed[0])
                await self.app(scope, receive, send)
                return
            sent_one = any(name in KEY_HEADERS for name, _ in scope["headers"])
            problem = "the API key is not one of this server's" if sent_one else "this server needs an API key"
            refusal = InvalidApiKey(
                f"{problem}; send it as 'Authorization: Bearer <key>' or as 'x-api-key: <key>'",
                headers={"WWW-Authenticate": "Bearer"},
            )
            if scope["type"] == "websocket":
                await refuse_upgrade(scope, send, refusal)
                return
            envelope = envelope_of(path_of(scope))
            await send_error(send, refusal, envelope=envelope, request_id=request_identity(scope).id)
            return
        await self.app(scope, receive, send)

    def is_guarded(self, scope: Scope) -> bool:
        if scope["type"] == "websocket":
            return True  # on whatever path
        # A preflight request cannot carry a key.
        return scope["method"] != "OPTIONS" and path_of(scope).startswith(GUARDED_PREFIXES)

    def is_known(self, key: bytes) -> bool:
        digest = sha256(key).digest()
        # Every key is compared, so the time does not tell which one was near.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)


def sent_keys(scope: Scope) -> list[bytes]:
    """What a request brings as keys, in the places where clients put them."""
    found = []
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            if scheme.lower() == b"bearer":
                found.append(key.strip())
        elif name in KEY_HEADERS:
            found.append(value.strip())
    return found[:MAX_KEYS]


def path_of(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def owner_of(key: bytes) -> str:
    """What stands for a key where the key itself must not be kept. Another digest than the guard compares."""
    return sha256(b"owner of responses\0" + key).hexdigest()
