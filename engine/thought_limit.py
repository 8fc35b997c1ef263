"""How long an answer may think: counted as tokens come, and closed by tokens that are forced. No tensors, no text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtLimit:
    """Part of `SamplingParams`. Marks are token sequences, because the engine knows no text.

    max_tokens   of the thought, its marks not counted
    starts       ways to write the mark that begins it; looked for where the answer begins
    ends         ways to write a mark behind it, longest first
    closing      what is written when the limit is reached
    is_open      the prompt has begun the thought
    """

    max_tokens: int
    starts: tuple[tuple[int, ...], ...] = ()
    ends: tuple[tuple[int, ...], ...]
    closing: tuple[int, ...]
    is_open: bool = False


class Thought:
    """Of one request. `forced` is the token that has to come next, None for any."""

    __slots__ = ("_at", "_began", "_is_open", "_limit", "_patience", "is_over")

    def __init__(self, limit: ThoughtLimit) -> None:
        self._limit = limit
        self._is_open = limit.is_open
        self._patience = max(map(len, limit.starts), default=0) + 2  # white space may come before the mark
        self._began = 0
        """Generated tokens before the thought."""
        self._at = 0
        """How much of the closing tokens has been written, when the limit is reached."""
        self.is_over = False

    def forced(self, num_generated: int) -> int | None:
        """`num_generated` tokens of the answer there are."""
        if self.is_over or not self._is_open or num_generated - self._began < self._limit.max_tokens:
            return None
        return self._limit.closing[self._at]

    def take(self, token_ids: Sequence[int], num_generated: int) -> None:
        """A token has been added to these, of which so many are the answer's."""
        if self.is_over:
            return

        def ends_with(tail: Sequence[int]) -> bool:
            return len(tail) <= num_generated and all(token_ids[at - len(tail)] == tail[at] for at in range(len(tail)))

        if not self._is_open:
            self._is_open = any(map(ends_with, self._limit.starts))
            self._began = num_generated
            self.is_over = not self._is_open and num_generated >= self._patience
        elif any(map(ends_with, self._limit.ends)):
            self.is_over = True
        else:
            closing = self._limit.closing
            self._at = next((n for n in range(len(closing) - 1, 0, -1) if ends_with(closing[:n])), 0)
