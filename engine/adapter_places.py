"""How many different adapters compute in one step, and who waits for that. Plain Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from specserve.engine.request import Request


class AdapterPlaces:
    """How many different adapters compute at once, and who waits for a place among them.

    Whoever needs an adapter that has no place waits, and with him all later ones that need any adapter: those in
    front could else hold the places for ever. Requests without adapter need no place and pass.
    """

    def __init__(self, number: int) -> None:
        self.number = number

    def has_one(self, request: Request, running: Iterable[Request]) -> bool:
        if request.adapter is None:
            return True
        taken = {id(other.adapter) for other in running if other.adapter is not None}
        return id(request.adapter) in taken or len(taken) < self.number

    def first(self, waiting: Sequence[Request], running: Iterable[Request]) -> Request | None:
        """The first of `waiting`, which are in order, that may start next to `running`."""
        if not waiting or self.has_one(waiting[0], running):
            return waiting[0] if waiting else None
        return next((request for request in waiting if request.adapter is None), None)


def adapters_of(requests: Iterable[Request]) -> tuple[str, ...]:
    """Names, each once, sorted."""
    return tuple(sorted({request.adapter.name for request in requests if request.adapter is not None}))
