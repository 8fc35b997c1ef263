"""How much of the server one client may hold at once. A client is its API key, or its address where there is none."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

from starlette.types import Scope

from specserve.generated.errors import RateLimitExceeded

RETRY_AFTER_S = 1


class FairShare:
    """Counts the open answers of each client. Only digests of keys are kept, and only while something is open."""

    def __init__(self, limit: int | None) -> None:
        """`limit` answers at once per client; None for as many as it likes."""
        self._limit = limit
        self._open: Counter[bytes] = Counter()

    def take(self, scope: Scope) -> bytes:
        """A place for one more answer, to be given back. Raises RateLimitExceeded."""
        if self._limit is None:
            return b""
        client = client_of(scope)
        if self._open[client] >= self._limit:
            raise RateLimitExceeded(
                f"{self._open[client]} requests of this client are open, the limit is {self._limit} at once; "
                "send the next when one has ended",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        self._open[client] += 1
        return client

    def give_back(self, client: bytes) -> None:
        if client:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]


def client_of(scope: Scope) -> bytes:
    key = next((value for name, value in scope["headers"] if name in (b"authorization", b"x-api-key")), None)
    address, _ = scope.get("client") or ("", 0)
    return sha256(key if key is not None else address.encode()).digest()
