"""Reading a text that arrives in pieces as if it were all there. Knows no format.

A parser is written as one generator that reads from the front and yields whenever it needs more text. What it decides
depends on the text alone: every step here waits until more text cannot change its outcome. So the cuts cannot matter.
Each character is consumed once, and at most the length of a mark stays unread: the work is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from functools import lru_cache
from itertools import groupby
from typing import TypeAlias, TypeVar

from specserve.handlers.chat.answer_pieces import CallArguments, Content, Piece, Reasoning

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]
"""Reads; yields when it waits for more text."""
Sink: TypeAlias = Callable[[str], None]

SPACE = re.compile(r"\s*")
NAME = re.compile(r"[\w.:/-]*")
"""Characters of function names, with those that some models put between the parts of a name."""
NEVER = re.compile(r"(?!)")
TEXTS = (Content, Reasoning, CallArguments)


class Tags:
    """Marks that are searched for together. None may be within another: which one is meant would depend on cuts."""

    def __init__(self, tags: Iterable[str]) -> None:
        self.tags = tuple(dict.fromkeys(tag for tag in tags if tag))
        for tag in self.tags:
            if any(tag in other for other in self.tags if other != tag):
                raise ValueError(f"{tag!r} is within another of {self.tags}")
        self._pattern = re.compile("|".join(map(re.escape, self.tags))) if self.tags else NEVER
        self._longest = max(map(len, self.tags), default=1)
        self._first = frozenset(tag[0] for tag in self.tags)
        self._any_first = re.compile("|".join(map(re.escape, self._first))) if self.tags else NEVER

    def search(self, text: str, at: int) -> re.Match[str] | None:
        return self._pattern.search(text, at)

    def may_begin_in(self, text: str) -> bool:
        """False where no tag and no beginning of one can be."""
        return self._any_first.search(text) is not None

    def certain_end(self, text: str, at: int) -> int:
        """Where the longest end of the text begins that may become a tag."""
        if not self._first:
            return len(text)
        for start in range(max(at, len(text) - self._longest + 1), len(text)):
            if text[start] in self._first and any(tag.startswith(text[start:]) for tag in self.tags):
                return start
        return len(text)


@lru_cache(maxsize=256)
def tags_of(*tags: str) -> Tags:
    """The same for every answer of a format."""
    return Tags(tags)


class Scanner:
    """An `AnswerParser` made of one generator, `parse`, which reads up to the end of the text."""

    def __init__(self) -> None:
        self._text = ""
        self._at = 0
        self._has_ended = False
        self._held: list[str] | None = None
        self._pouring: tuple[Tags, Sink] | None = None
        self._pieces: list[Piece] = []
        self._run = self.parse()
        self.is_cut = False

    def parse(self) -> Steps[None]:
        raise NotImplementedError

    def feed(self, text: str) -> list[Piece]:
        if self._pouring is not None and self._at == len(self._text):
            tags, sink = self._pouring
            if not tags.may_begin_in(text):  # most text is like that: what `until` does with it is known
                if self._held is not None:
                    self._held.append(text)
                pour(text, sink)
                return self._taken()
        self._text = self._text[self._at :] + text
        self._at = 0
        return self._advance()

    def finish(self, *, is_cut: bool) -> list[Piece]:
        self._has_ended, self.is_cut = True, is_cut
        return self._advance()

    def _advance(self) -> list[Piece]:
        next(self._run, None)
        return self._taken()

    def _taken(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return joined(pieces)

    def emit(self, piece: Piece) -> None:
        self._pieces.append(piece)

    @property
    def num_unread(self) -> int:
        return len(self._text) - self._at

    @property
    def unread(self) -> tuple[str, int]:
        """The buffer, and where in it the text begins that was not consumed."""
        return self._text, self._at

    def hold(self, already_read: str = "") -> None:
        """Remember from here on what is read, so that it can become content if it turns out to be nothing else."""
        self._held = [*(self._held or ()), already_read]

    def drop(self) -> str:
        """What was held, which is held no longer."""
        held, self._held = self._held, None
        return "".join(held or ())

    def consume(self, end: int) -> str:
        """The text up to position `end` of the unread buffer."""
        text = self._text[self._at : end]
        self._at = end
        if self._held is not None:
            self._held.append(text)
        return text

    def more(self) -> Steps[bool]:
        """Waits for more text. False when there is none."""
        if self._has_ended:
            return False
        yield
        return True

    def peek(self, length: int) -> Steps[str]:
        """The next characters, fewer only at the end of the text. Does not consume them."""
        while self.num_unread < length and (yield from self.more()):
            pass
        return self._text[self._at : self._at + length]

    def take(self, length: int) -> Steps[str]:
        yield from self.peek(length)
        return self.consume(min(self._at + length, len(self._text)))

    def accept(self, *wanted: str) -> Steps[str]:
        """Consumes and returns the longest of `wanted` that comes next; empty if none does."""
        longest = max(map(len, wanted), default=0)
        while True:
            ahead = self._text[self._at : self._at + longest]
            found = max((tag for tag in wanted if tag and ahead.startswith(tag)), key=len, default="")
            undecided = any(len(tag) > len(ahead) and tag.startswith(ahead) for tag in wanted)
            if not undecided or not (yield from self.more()):
                self.consume(self._at + len(found))
                return found

    def until(self, tags: Tags, sink: Sink) -> Steps[str]:
        """Pours the text up to the first tag into `sink`; consumes and returns the tag, empty if there is none."""
        while True:
            found = tags.search(self._text, self._at)
            if found is not None:
                pour(self.consume(found.start()), sink)
                return self.consume(found.end())
            pour(self.consume(tags.certain_end(self._text, self._at)), sink)
            self._pouring = tags, sink
            has_more = yield from self.more()
            self._pouring = None
            if not has_more:
                pour(self.consume(len(self._text)), sink)
                return ""

    def copy_run(self, characters: re.Pattern[str], sink: Sink) -> Steps[None]:
        """Pours the longest run of what the pattern, a repeated class of characters, matches."""
        while True:
            found = characters.match(self._text, self._at)
            pour(self.consume(self._at if found is None else found.end()), sink)
            if self.num_unread or not (yield from self.more()):
                return

    def run_of(self, characters: re.Pattern[str]) -> Steps[str]:
        """The longest run as one text, once it is complete."""
        parts: list[str] = []
        yield from self.copy_run(characters, parts.append)
        return "".join(parts)

    def skip_space(self) -> Steps[None]:
        yield from self.run_of(SPACE)

    def read_name(self) -> Steps[str]:
        return (yield from self.run_of(NAME))


def pour(text: str, sink: Sink) -> None:
    if text:
        sink(text)


def ignore(text: str) -> None:
    """A sink for what nobody needs."""


class WithoutLastNewline:
    """A sink that keeps back one line break at the end."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._held = ""

    def __call__(self, text: str) -> None:
        text = self._held + text
        self._held = "\n" if text.endswith("\n") else ""
        pour(text.removesuffix("\n"), self._sink)


def joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of one kind as one piece."""
    if len(pieces) < 2:
        return pieces
    found: list[Piece] = []
    for kind, several in groupby(pieces, type):
        same = list(several)
        if kind in TEXTS and len(same) > 1:
            found.append(kind("".join(piece.text for piece in same)))  # type: ignore[union-attr]
        else:
            found += same
    return found
