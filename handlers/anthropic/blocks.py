"""An answer as a list of blocks, one open at a time: what streams are written from and whole answers folded from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from specserve.handlers.chat.events import (
    ChatEvent,
    ChatFinished,
    ContentDelta,
    ReasoningDelta,
    ToolCallArguments,
    ToolCallStart,
)

Kind = Literal["text", "thinking", "tool_use"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A block begins; `call_id` and `name` are those of a call."""

    kind: Kind
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Grown:
    """More of the open block: text, thoughts, or the JSON text of a call's input."""

    text: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The open block is complete."""


BlockEvent = Opened | Grown | Closed


class Blocks:
    """Turns the events of one choice into those of blocks.

    White space at the beginning of a text waits for what follows: a text of nothing else is left out, unless it is all
    there is. An empty answer is one empty text, for clients read the first block without looking.
    """

    def __init__(self) -> None:
        self._open: Kind | None = None
        self._num_blocks = 0
        self._held = ""

    def feed(self, event: ChatEvent) -> Iterator[BlockEvent]:
        match event:
            case ContentDelta(text=text):
                yield from self._more_text(text)
            case ReasoningDelta(text=text):
                yield from self._more("thinking", text)
            case ToolCallStart(call_id=call_id, name=name):
                yield from self._opened(Opened("tool_use", call_id, name))
            case ToolCallArguments(text=text):
                yield from self._more("tool_use", text)
            case ChatFinished():
                yield from self._end()

    def _more_text(self, text: str) -> Iterator[BlockEvent]:
        if self._open != "text":
            self._held += text
            if not self._held.strip():
                return
            text, self._held = self._held, ""
        yield from self._more("text", text)

    def _more(self, kind: Kind, text: str) -> Iterator[BlockEvent]:
        if not text:
            return
        if self._open != kind:
            yield from self._opened(Opened(kind))
        yield Grown(text)

    def _opened(self, event: Opened) -> Iterator[BlockEvent]:
        yield from self._closed()
        self._open, self._held = event.kind, ""
        self._num_blocks += 1
        yield event

    def _closed(self) -> Iterator[BlockEvent]:
        if self._open is not None:
            self._open = None
            yield Closed()

    def _end(self) -> Iterator[BlockEvent]:
        if not self._num_blocks:
            held = self._held
            yield from self._opened(Opened("text"))
            if held:
                yield Grown(held)
        yield from self._closed()
