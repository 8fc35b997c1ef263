"""What one connection can go on from: its own responses that nobody stores, and those that are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specserve.handlers.openai.responses.store import ResponseStore, StoredResponse, StoreNumbers


class ConnectionStore:
    """A `ResponseStore` to read from: `own` first, then `shared`. What is kept goes to one of the two directly."""

    def __init__(self, own: ResponseStore, shared: ResponseStore) -> None:
        self._own, self._shared = own, shared

    @property
    def numbers(self) -> StoreNumbers:
        return self._shared.numbers

    async def put(self, kept: StoredResponse, earlier: Sequence[StoredResponse] = ()) -> bool:
        return await self._shared.put(kept, earlier)

    async def get(self, owner: str, response_id: str) -> StoredResponse | None:
        return await self._own.get(owner, response_id) or await self._shared.get(owner, response_id)

    async def chain(self, owner: str, response_id: str) -> list[StoredResponse] | None:
        own = await self._own.chain(owner, response_id)
        return own if own is not None else await self._shared.chain(owner, response_id)

    async def item(self, owner: str, item_id: str) -> dict[str, Any] | None:
        return await self._own.item(owner, item_id) or await self._shared.item(owner, item_id)

    async def delete(self, owner: str, response_id: str) -> bool:
        return await self._shared.delete(owner, response_id)

    async def expire(self) -> None:
        await self._shared.expire()

    async def close(self) -> None:
        """Its parts belong to others."""
