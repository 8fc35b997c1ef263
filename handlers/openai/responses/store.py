"""What is kept of responses, within limits of number, bytes and age; the oldest goes first.

Knows JSON bytes and owners; nothing of requests, engines or events' meaning. This file keeps in memory, and
`store_sqlite` in a file, by the same rules:

- An entry is found by its owner and its id, never by its id alone.
- An entry holds its turn, and a turn holds the one it continues. When an entry goes, by age, for room or because it
  was deleted, its turn stays for the conversations that continue from it, and goes with the last of them.
- What is larger than the whole store is not kept, and whoever puts it is told.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

OVERHEAD_BYTES = 512
"""Counted for each turn beside its content: ids, objects and places in tables."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Zero entries keep nothing. An age of None never ends."""

    entries: int = 1000
    num_bytes: int = 64 * 1024 * 1024
    age_s: float | None = 3600.0


@dataclass(frozen=True, slots=True)
class StoreNumbers:
    """How full a store is, and how many entries it has let go for room or age."""

    entries: int
    num_bytes: int
    evicted: int


def new_turn() -> int:
    return secrets.randbits(63)


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """One response as it is kept: `response` is its JSON, `input_items` the JSON list of what its request added.

    `events` is a packed `Recording`, or empty. `turn` names this state of the response in chains.
    """

    id: str
    owner: str
    status: str
    response: bytes
    input_items: bytes = b"[]"
    events: bytes = b""
    turn: int = field(default_factory=new_turn)

    @property
    def num_bytes(self) -> int:
        content = len(self.response) + len(self.input_items) + len(self.events)
        return content + len(self.id) + len(self.owner) + OVERHEAD_BYTES

    @property
    def is_under_way(self) -> bool:
        return self.status in ("queued", "in_progress")


class ResponseStore(Protocol):
    @property
    def numbers(self) -> StoreNumbers: ...

    async def put(self, kept: StoredResponse, earlier: Sequence[StoredResponse] = ()) -> bool:
        """Keep `kept`, which continues the chain `earlier`, in the place of what its owner had under this id.

        False when it is larger than the store, with its chain; then nothing of this id is kept.
        """

    async def get(self, owner: str, response_id: str) -> StoredResponse | None: ...

    async def chain(self, owner: str, response_id: str) -> list[StoredResponse] | None:
        """The turns of a conversation up to this response, oldest first."""

    async def item(self, owner: str, item_id: str) -> dict[str, Any] | None:
        """The item with this id of the newest response that has it, in its input or its output."""

    async def delete(self, owner: str, response_id: str) -> bool:
        """False when there was nothing to delete."""

    async def expire(self) -> None:
        """Let go what is too old. Every other call does so too; this is for a store that nobody asks."""

    async def close(self) -> None: ...


def fits(kept: StoredResponse, earlier: Sequence[StoredResponse], limits: StoreLimits) -> bool:
    return limits.entries > 0 and kept.num_bytes + sum(one.num_bytes for one in earlier) <= limits.num_bytes


def items_of(chain: Sequence[StoredResponse]) -> list[dict[str, Any]]:
    """What a request that continues `chain` continues from: the input and the output of every turn."""
    items: list[dict[str, Any]] = []
    for kept in chain:
        items += json.loads(kept.input_items)
        items += json.loads(kept.response)["output"]
    return items


def item_in(kept: StoredResponse, item_id: str) -> dict[str, Any] | None:
    """The item with this id, if a response has it. Most have not, and are not parsed."""
    mark = item_id.encode()
    if mark not in kept.response and mark not in kept.input_items:
        return None
    return next((item for item in items_of([kept]) if item.get("id") == item_id), None)


@dataclass(slots=True)
class _Turn:
    kept: StoredResponse
    previous: _Turn | None
    uses: int = 0
    """Entries and later turns that hold this one."""


@dataclass(slots=True)
class _Entry:
    turn: _Turn
    kept_at: float


class MemoryStore:
    """A `ResponseStore` that ends with the process."""

    def __init__(self, limits: StoreLimits | None = None, now: Callable[[], float] = time.time) -> None:
        self._limits = limits or StoreLimits()
        self._now = now
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._turns: dict[int, _Turn] = {}
        self._num_bytes = 0
        self._evicted = 0

    @property
    def numbers(self) -> StoreNumbers:
        self._expire()
        return StoreNumbers(len(self._entries), self._num_bytes, self._evicted)

    async def put(self, kept: StoredResponse, earlier: Sequence[StoredResponse] = ()) -> bool:
        self._expire()
        self._drop((kept.owner, kept.id))
        if not fits(kept, earlier, self._limits):
            return False
        turn = self._hold([*earlier, kept])
        turn.uses += 1
        self._entries[kept.owner, kept.id] = _Entry(turn, self._now())
        while len(self._entries) > self._limits.entries or self._num_bytes > self._limits.num_bytes:
            self._evict()
        return True

    async def get(self, owner: str, response_id: str) -> StoredResponse | None:
        self._expire()
        entry = self._entries.get((owner, response_id))
        return None if entry is None else entry.turn.kept

    async def chain(self, owner: str, response_id: str) -> list[StoredResponse] | None:
        self._expire()
        entry = self._entries.get((owner, response_id))
        if entry is None:
            return None
        found: list[StoredResponse] = []
        turn: _Turn | None = entry.turn
        while turn is not None:
            found.append(turn.kept)
            turn = turn.previous
        return found[::-1]

    async def item(self, owner: str, item_id: str) -> dict[str, Any] | None:
        self._expire()
        own = (entry.turn.kept for (of, _), entry in reversed(self._entries.items()) if of == owner)
        return next((found for kept in own if (found := item_in(kept, item_id)) is not None), None)

    async def delete(self, owner: str, response_id: str) -> bool:
        self._expire()
        return self._drop((owner, response_id))

    async def expire(self) -> None:
        self._expire()

    async def close(self) -> None:
        """There is nothing to close."""

    def _hold(self, chain: Sequence[StoredResponse]) -> _Turn:
        """The last turn of a chain, all of which is kept from now on; it is still to be used by an entry."""
        last: _Turn | None = None
        for kept in chain:
            turn = self._turns.get(kept.turn)
            if turn is None:
                turn = self._turns[kept.turn] = _Turn(kept, last)
                self._num_bytes += kept.num_bytes
                if last is not None:
                    last.uses += 1
            last = turn
        assert last is not None
        return last

    def _drop(self, key: tuple[str, str]) -> bool:
        entry = self._entries.pop(key, None)
        turn = entry.turn if entry is not None else None
        while turn is not None:
            turn.uses -= 1
            if turn.uses:
                break
            del self._turns[turn.kept.turn]
            self._num_bytes -= turn.kept.num_bytes
            turn = turn.previous
        return entry is not None

    def _evict(self) -> None:
        self._drop(next(iter(self._entries)))
        self._evicted += 1

    def _expire(self) -> None:
        if self._limits.age_s is None:
            return
        oldest = self._now() - self._limits.age_s
        while self._entries and next(iter(self._entries.values())).kept_at < oldest:
            self._evict()
