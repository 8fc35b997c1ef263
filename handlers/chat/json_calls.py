"""Constrained JSON read as tool calls while it is written: any way of cutting the text gives the same calls.

Two forms, as `tool_constraints` asks for them: the arguments of one known tool, or an array of
`{"name": …, "parameters": {…}}`. Text that is neither is handed back as content: nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol

from specserve.handlers.chat.events import ChatEvent, ChatFinished, ContentDelta, ToolCallArguments, ToolCallStart

NAME, ARGUMENTS = "name", "parameters"
"""The keys of a call in the array form."""
SPACE = frozenset(" \t\r\n")
CallEvent = ToolCallStart | ToolCallArguments
NewId = Callable[[], str]


class CallReader(Protocol):
    """Reads one choice. `content` is text that turned out to be no call."""

    def feed(self, text: str) -> tuple[str, list[CallEvent]]:
        """Content and calls in the next piece of text."""

    def end(self) -> str:
        """Content that was held back when the text ends."""

    @property
    def is_complete(self) -> bool:
        """Whether everything that was begun is closed, and there is a call."""


@dataclass(slots=True)
class ValueEnd:
    """Finds the end of a JSON object or array: the bracket that closes the first one, outside of strings."""

    depth: int = 0
    in_string: bool = False
    is_escaped: bool = False

    def ends_with(self, character: str) -> bool:
        if self.in_string:
            if self.is_escaped:
                self.is_escaped = False
            elif character == "\\":
                self.is_escaped = True
            elif character == '"':
                self.in_string = False
        elif character == '"':
            self.in_string = True
        elif character in "{[":
            self.depth += 1
        elif character in "}]":
            self.depth -= 1
            return self.depth == 0
        return False


@dataclass(slots=True)
class NamedCallReader:
    """The whole text is the arguments of one tool; blank text is no call."""

    index: int
    name: str
    new_id: NewId
    _end: ValueEnd = field(default_factory=ValueEnd)
    _has_begun: bool = False
    _is_closed: bool = False

    def feed(self, text: str) -> tuple[str, list[CallEvent]]:
        if not self._has_begun:
            text = text.lstrip()
        if not text:
            return "", []
        for character in text:
            if not self._is_closed:
                self._is_closed = self._end.ends_with(character)
        found: list[CallEvent] = []
        if not self._has_begun:
            self._has_begun = True
            found.append(ToolCallStart(index=self.index, call_index=0, call_id=self.new_id(), name=self.name))
        return "", [*found, ToolCallArguments(index=self.index, call_index=0, text=text)]

    def end(self) -> str:
        return ""

    @property
    def is_complete(self) -> bool:
        return self._is_closed


STRING, OBJECT, COMMA_OR_END = "a string", "an object", "a comma or the end"
PARTS = ("[", "{", f'"{NAME}"', ":", STRING, ",", f'"{ARGUMENTS}"', ":", OBJECT, "}", COMMA_OR_END)
"""What an array of calls is made of, with white space anywhere between; after a comma it goes on with the brace."""
FIRST_OF_CALL = 1


@dataclass(slots=True)
class ArrayCallsReader:
    """An array of calls, each with its name before its parameters.

    `_pending` is the raw text that was not told of yet: it becomes content should the text go on otherwise, or end.
    """

    index: int
    new_id: NewId
    _at: int = 0
    """Place in PARTS; their number when the array is closed."""
    _part: str = ""
    """The part as far as it was read."""
    _pending: str = ""
    _is_content: bool = False
    _num_calls: int = 0
    _end: ValueEnd = field(default_factory=ValueEnd)

    def feed(self, text: str) -> tuple[str, list[CallEvent]]:
        found: list[CallEvent] = []
        arguments = ""
        for at, character in enumerate(text):
            if self._is_content:
                return self.end() + text[at:], found
            if self._at < len(PARTS) and PARTS[self._at] is OBJECT and (self._part or character == "{"):
                self._part = "{"
                arguments += character
                if self._end.ends_with(character):
                    found.append(self._more(arguments))
                    arguments = ""
                    self._end = ValueEnd()
                    self._advance()
            elif self._part or character not in SPACE:
                self._read(character, found)
        if arguments:
            found.append(self._more(arguments))
        return self.end() if self._is_content else "", found

    def end(self) -> str:
        held, self._pending = self._pending, ""
        return held

    @property
    def is_complete(self) -> bool:
        return self._at == len(PARTS) and self._num_calls > 0 and not self._is_content

    def _more(self, text: str) -> ToolCallArguments:
        return ToolCallArguments(index=self.index, call_index=self._num_calls - 1, text=text)

    def _advance(self) -> None:
        self._at += 1
        self._part = ""
        if self._at > PARTS.index(STRING):  # a part of a call that has been told of
            self._pending = ""

    def _read(self, character: str, found: list[CallEvent]) -> None:
        self._pending += character
        self._part += character
        wanted = PARTS[self._at] if self._at < len(PARTS) else None
        if wanted is STRING:
            self._read_name(found)
        elif wanted is COMMA_OR_END and character == "]":
            self._advance()
        elif wanted is COMMA_OR_END and character == ",":
            self._at, self._part, self._pending = FIRST_OF_CALL, "", ""
        elif self._part == wanted:
            self._advance()
        elif wanted is None or not wanted.startswith(self._part):
            self._is_content = True

    def _read_name(self, found: list[CallEvent]) -> None:
        if not self._part.startswith('"'):
            self._is_content = True
            return
        try:
            name: str = json.loads(self._part)
        except ValueError:  # goes on
            return
        found.append(ToolCallStart(index=self.index, call_index=self._num_calls, call_id=self.new_id(), name=name))
        self._num_calls += 1
        self._advance()


async def read_calls(
    events: AsyncGenerator[ChatEvent, None], reader_of: Callable[[int], CallReader]
) -> AsyncGenerator[ChatEvent, None]:
    """The events of constrained answers with their text read as calls; `reader_of` makes the reader of a choice.

    Token counts and log probabilities stay with the content events, whose text is now what is no call.
    """
    readers: dict[int, CallReader] = {}
    last: dict[int, ContentDelta] = {}
    async with aclosing(events):
        async for event in events:
            if not isinstance(event, ContentDelta | ChatFinished):
                yield event
                continue
            reader = readers.get(event.index) or readers.setdefault(event.index, reader_of(event.index))
            if isinstance(event, ContentDelta):
                content, calls = reader.feed(event.text)
                last[event.index] = replace(event, text="", token_ids=(), logprobs=None)
                yield replace(event, text=content)
                for call in calls:
                    yield call
                continue
            held = reader.end()
            if held and event.index in last:
                yield replace(last[event.index], text=held)
            yield replace(event, calls_complete=reader.is_complete)
