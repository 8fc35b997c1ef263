"""The special tokens that stand around one text, and around and between two, read off the tokenizer.

With them texts are tokenized once, cut by tokens and joined without the tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specserve.engine.api import Tokenizer

FIRST, SECOND = "a", "b"
"""Any two texts of one token or a few."""


@dataclass(frozen=True, slots=True)
class TextFrame:
    before: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()

    @property
    def num_tokens(self) -> int:
        return len(self.before) + len(self.behind)

    def around(self, token_ids: Sequence[int]) -> list[int]:
        return [*self.before, *token_ids, *self.behind]


@dataclass(frozen=True, slots=True)
class PairFrame:
    """`types` are the segments of what stands before, of the first text, between, of the second text, behind."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    behind: tuple[int, ...]
    types: tuple[int, int, int, int, int]

    @property
    def num_tokens(self) -> int:
        return len(self.before) + len(self.between) + len(self.behind)

    def join(self, first: Sequence[int], second: Sequence[int]) -> tuple[list[int], list[int]]:
        """Token ids and segments of the pair."""
        parts = (self.before, first, self.between, second, self.behind)
        types: list[int] = []
        for kind, part in zip(self.types, parts, strict=True):
            types += [kind] * len(part)
        return [token_id for part in parts for token_id in part], types


def text_frame(tokenizer: Tokenizer) -> TextFrame:
    """Takes some 50 µs, once for each request."""
    inner = tokenizer.encode(FIRST, add_special_tokens=False)
    whole = tokenizer.encode(FIRST, add_special_tokens=True)
    at = place_of(inner, whole, 0)
    return TextFrame(tuple(whole[:at]), tuple(whole[at + len(inner) :]))


def pair_frame(tokenizer: Tokenizer) -> PairFrame:
    first = tokenizer.encode(FIRST, add_special_tokens=False)
    second = tokenizer.encode(SECOND, add_special_tokens=False)
    whole, types = tokenizer.encode_pair(FIRST, SECOND)
    at = place_of(first, whole, 0)
    behind_first = at + len(first)
    then = place_of(second, whole, behind_first)
    behind_second = then + len(second)

    def kind(start: int, end: int, otherwise: int) -> int:
        return types[start] if start < end else otherwise

    own, other = types[at], types[then]
    return PairFrame(
        tuple(whole[:at]),
        tuple(whole[behind_first:then]),
        tuple(whole[behind_second:]),
        (kind(0, at, own), own, kind(behind_first, then, own), other, kind(behind_second, len(whole), other)),
    )


def place_of(inner: Sequence[int], whole: Sequence[int], start: int) -> int:
    """Where the tokens of a text stand among all of them."""
    for at in range(start, len(whole) - len(inner) + 1):
        if list(whole[at : at + len(inner)]) == list(inner):
            return at
    raise ValueError("the tokenizer writes a text in another way between special tokens than alone")


def longest_first(num_first: int, num_second: int, room: int) -> tuple[int, int]:
    """How many tokens of two texts stay when together they may have `room`: the longer one is cut first.

    Source: the strategy of this name in transformers and tokenizers.
    """
    if num_first + num_second <= room:
        return num_first, num_second
    shorter, longer = sorted((num_first, num_second))
    longer = max(shorter, room - shorter) if shorter <= room else shorter
    if shorter + longer > room:
        shorter = room // 2
        longer = shorter + room % 2
    return (shorter, longer) if num_first <= num_second else (longer, shorter)
