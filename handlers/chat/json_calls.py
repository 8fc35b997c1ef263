"""Constrained JSON read as tool calls while it is written: any way of cutting the text gives the same calls.

Two forms, as `tool_constraints` asks for them: one `{"name": …, "arguments": {…}}`, or an array of them. Text that is
neither is handed back as content: nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from specserve.handlers.chat.events import ChatEvent, ChatFinished, ContentDelta, ToolCallArguments, ToolCallStart

NAME = "name"
"""The first key of a call."""
SPACE = frozenset(" \t\r\n")
CallEvent = ToolCallStart | ToolCallArguments
NewId = Callable[[], str]


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


STRING, OBJECT, COMMA_OR_END = "a string", "an object", "a comma or the end"
FIRST_OF_CALL, AFTER_NAME = 1, 5
NUM_PARTS = 11


def parts(key: str) -> tuple[str, ...]:
    """What an array of calls is made of, with white space anywhere between; after a comma it goes on with the brace.

    A call by itself is the same without the first and the last part. `key` is that of the arguments.
    """
    return "[", "{", f'"{NAME}"', ":", STRING, ",", f'"{key}"', ":", OBJECT, "}", COMMA_OR_END


@dataclass(slots=True)
class CallReader:
    """Reads one choice: a call, or an array of calls, each with its name before its arguments.

    `_pending` is the raw text that was not told of yet: it becomes content should the text go on otherwise, or end.
    """

    index: int
    new_id: NewId
    key: str
    is_array: bool
    _at: int = 0
    """Place in `parts`; their number when the array is closed."""
    _part: str = ""
    """The part as far as it was read."""
    _pending: str = ""
    _is_content: bool = False
    _num_calls: int = 0
    _end: ValueEnd = field(default_factory=ValueEnd)
    _parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._parts = parts(self.key)
        self._at = 0 if self.is_array else FIRST_OF_CALL

    def feed(self, text: str) -> tuple[str, list[CallEvent]]:
        """Text that turned out to be no call, and calls, in the next piece of text."""
        found: list[CallEvent] = []
        arguments = ""
        for at, character in enumerate(text):
            if self._is_content:
                return self.end() + text[at:], found
            if self._at < NUM_PARTS and self._parts[self._at] is OBJECT and (self._part or character == "{"):
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
        """Content that was held back when the text ends. The rest of a call that was told of is none."""
        held, self._pending = self._pending, ""
        return held if self._is_content or self._at < AFTER_NAME else ""

    @property
    def is_complete(self) -> bool:
        """Whether everything that was begun is closed, and there is a call."""
        return self._at == NUM_PARTS and self._num_calls > 0 and not self._is_content

    def _more(self, text: str) -> ToolCallArguments:
        return ToolCallArguments(index=self.index, call_index=self._num_calls - 1, text=text)

    def _advance(self) -> None:
        self._at += 1
        if self._at == NUM_PARTS - 1 and not self.is_array:
            self._at = NUM_PARTS
        self._part = ""
        if self._at >= AFTER_NAME:  # a part of a call that has been told of
            self._pending = ""

    def _read(self, character: str, found: list[CallEvent]) -> None:
        self._pending += character
        self._part += character
        wanted = self._parts[self._at] if self._at < NUM_PARTS else None
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
