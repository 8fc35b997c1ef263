"""Requests that wait for the first of their kind to compute the prompt they share. Plain Python."""

from __future__ import annotations

from collections.abc import Sequence

from specserve.engine.request import Request


class HeldSiblings:
    """By the id of the first, until the blocks of its prompt can be shared. Each request is held once at most."""

    def __init__(self) -> None:
        self._held: dict[str, list[Request]] = {}

    def __len__(self) -> int:
        """Groups with somebody held."""
        return len(self._held)

    def hold(self, first: Request, siblings: Sequence[Request]) -> None:
        if siblings:
            self._held.setdefault(first.request_id, []).extend(siblings)

    def of(self, first: Request) -> Sequence[Request]:
        return self._held.get(first.request_id, ())

    def release(self, first: Request) -> list[Request]:
        """Those held for `first`, which are held no longer."""
        return self._held.pop(first.request_id, [])

    def remove(self, request: Request) -> None:
        """Raises StopIteration when it is not held."""
        first_id, held = next(item for item in self._held.items() if request in item[1])
        held.remove(request)
        if not held:
            del self._held[first_id]
