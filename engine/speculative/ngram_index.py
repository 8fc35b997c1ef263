"""What followed the last tokens of a sequence when they occurred in it before. Plain Python."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import cycle, islice

MAX_CANDIDATES = 64
"""Earlier occurrences that are compared for one proposal, the most recent first: bounds the time of a step."""
SMALLEST_TABLE = 256


class NgramIndex:
    """Of one growing sequence. A further token costs O(1), a proposal at most MAX_CANDIDATES comparisons.

    Occurrences of the n-grams of length `shortest` are chained from the most recent to the oldest by a hash table, as
    compressors of the LZ77 family do (RFC 1951, section 4). Where the gram begins, `_before` leads to the one before
    it in its bucket; different grams may share one, so each candidate is compared. Both arrays together take at most
    12 bytes for each token of the sequence, and 1 KiB.
    """

    def __init__(self, shortest: int, longest: int) -> None:
        """Matches are of `shortest` to `longest` tokens."""
        self._shortest, self._longest = shortest, longest
        self._latest = array("i", [-1]) * SMALLEST_TABLE
        self._before = array("i")

    def propose(self, token_ids: Sequence[int], count: int) -> list[int]:
        """What followed the longest match, of several equally long ones the most recent: `count` tokens, or none.

        `token_ids` go on from those of the call before. A match that reaches into its own continuation repeats: behind
        a b a b comes a b a b again, however few tokens there are.
        """
        self._extend(token_ids)
        length, n = len(token_ids), self._shortest
        if count < 1 or length <= n:
            return []
        tail = token_ids[length - n :]
        best, follows = 0, 0
        place = self._before[length - n]
        for _ in range(MAX_CANDIDATES):
            if place < 0:
                break
            if token_ids[place : place + n] == tail:
                matched = n + self._matched_before(token_ids, place, length - n)
                if matched > best:
                    best, follows = matched, place + n
                    if best == self._longest:
                        break
            place = self._before[place]
        if not best:
            return []
        followed = token_ids[follows : follows + count]
        return list(islice(cycle(followed), count))

    def _matched_before(self, token_ids: Sequence[int], place: int, end: int) -> int:
        """How many tokens before `place` equal those before `end`: no more than are looked for."""
        most = min(self._longest - self._shortest, place)
        count = 0
        while count < most and token_ids[place - 1 - count] == token_ids[end - 1 - count]:
            count += 1
        return count

    def _extend(self, token_ids: Sequence[int]) -> None:
        """Take in what has come since the last call."""
        size = len(self._latest)
        if len(token_ids) > size:
            while size < len(token_ids):
                size *= 2
            self._latest = array("i", [-1]) * size
            self._before = array("i")
        known, latest, before, mask = len(self._before), self._latest, self._before, size - 1
        added = token_ids[known:]
        for place, gram in enumerate(zip(*(added[at:] for at in range(self._shortest)), strict=False), known):
            bucket = hash(gram) & mask  # of integers: the same in every process
            before.append(latest[bucket])
            latest[bucket] = place
