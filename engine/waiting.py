"""Requests that do not run: in the queue, behind a grammar that is being compiled, behind a sibling. Plain Python."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

from specserve.engine.adapter_places import AdapterPlaces
from specserve.engine.admission import Order, num_shareable_tokens, shares_prompt
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.request import Request
from specserve.engine.siblings import HeldSiblings


class WaitingRequests:
    """The queue, sorted by `order`, and those that are not in it yet. Each request is in one place at most."""

    def __init__(self, order: Order, cache: KVCacheManager, places: AdapterPlaces) -> None:
        self._order = order
        self._places = places
        self._cache = cache
        self._queue: list[Request] = []
        self._unready: dict[str, Request] = {}  # whose grammars are being compiled
        self._siblings = HeldSiblings()

    def __len__(self) -> int:
        """Of the queue: those that could start."""
        return len(self._queue)

    @property
    def first(self) -> Request:
        return self._queue[0]

    def startable(self, running: Sequence[Request]) -> Request | None:
        """The first of the queue that may start next to `running`, as far as adapters are concerned."""
        return self._places.first(self._queue, running)

    @property
    def holds_siblings(self) -> bool:
        return bool(self._siblings)

    def enqueue(self, request: Request) -> None:
        """To its place in the queue, if it could run."""
        if request.is_ready:
            insort(self._queue, request, key=self._order)
        else:
            self._unready[request.request_id] = request

    def enqueue_behind(self, first: Request, request: Request) -> None:
        """The same, but where it can share the prompt of its sibling `first`, only once that is computed."""
        if first is not request and shares_prompt(first, request, self._cache):
            self._siblings.hold(first, [request])
        else:
            self.enqueue(request)

    def take(self, request: Request) -> None:
        """Out of the queue."""
        self._queue.remove(request)

    def make_ready(self, request: Request) -> None:
        request.is_ready = True
        if self._unready.pop(request.request_id, None) is not None:
            self.enqueue(request)

    def remove(self, request: Request) -> None:
        """Wherever it is. Raises StopIteration when it is nowhere."""
        if request in self._queue:
            self._queue.remove(request)
        elif self._unready.pop(request.request_id, None) is None:
            self._siblings.remove(request)

    def siblings_of(self, first: Request) -> Sequence[Request]:
        """Those that wait until `first` has computed the prompt they share."""
        return self._siblings.of(first)

    def release_siblings(self, first: Request) -> None:
        """Let them into the queue if it has."""
        if self._siblings.of(first) and first.num_computed_tokens >= num_shareable_tokens(first, self._cache):
            for sibling in self._siblings.release(first):
                self.enqueue(sibling)

    def replace_first(self, first: Request) -> None:
        """It has ended: the next of its siblings computes for the others."""
        if heirs := self._siblings.release(first):
            self.enqueue(heirs[0])
            self._siblings.hold(heirs[0], heirs[1:])
