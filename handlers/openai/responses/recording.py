"""The events of one response, kept to be sent again. They are much alike, so they are packed in blocks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import islice

import msgspec

from specserve.generated import schemas
from specserve.generated.base import Serialised

BLOCK_EVENTS = 128
FAST = 1
"""zlib's level: a tenth of the room is left already, in a third of a millisecond a block."""


class Recording:
    """Events by their number, which counts from 0."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._open: list[bytes] = []

    def __len__(self) -> int:
        return len(self._blocks) * BLOCK_EVENTS + len(self._open)

    def add(self, name: str, payload: bytes) -> None:
        self._open.append(b"%s %s" % (name.encode(), payload))
        if len(self._open) == BLOCK_EVENTS:
            self._blocks.append(zlib.compress(b"\n".join(self._open), FAST))
            self._open = []

    def events(self, start: int, stop: int | None = None) -> Iterator[Serialised[schemas.ResponseStreamEvent]]:
        """From the event with the number `start` on, as far as there are any now. JSON has no line breaks in it."""
        first, skipped = divmod(start, BLOCK_EVENTS)
        end = len(self) if stop is None else stop
        for line in islice(self._lines(first), skipped, max(0, end - first * BLOCK_EVENTS)):
            name, _, payload = line.partition(b" ")
            yield Serialised(payload, name.decode())

    def _lines(self, block: int) -> Iterator[bytes]:
        for packed in self._blocks[block:]:
            yield from zlib.decompress(packed).split(b"\n")
        if block <= len(self._blocks):
            yield from tuple(self._open)

    def packed(self) -> bytes:
        """The whole recording, for `unpacked`."""
        rest = zlib.compress(b"\n".join(self._open), FAST) if self._open else b""
        return msgspec.msgpack.encode((self._blocks, rest))

    @classmethod
    def unpacked(cls, packed: bytes) -> Recording:
        recording = cls()
        recording._blocks, rest = msgspec.msgpack.decode(packed, type=tuple[list[bytes], bytes])
        recording._open = zlib.decompress(rest).split(b"\n") if rest else []
        return recording
