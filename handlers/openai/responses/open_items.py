"""Items that are being written: each opens itself, grows and closes itself, in events of its own kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from specserve.generated import schemas
from specserve.handlers.openai.responses.items import new_id
from specserve.handlers.openai.responses.sealed import sealed
from specserve.handlers.openai.responses.text_argument import TextArgument
from specserve.handlers.openai.responses.tools import KnownTool

Event = schemas.ResponseStreamEvent


class OpenItem(Protocol):
    """An item that is being written. Its events carry its id and its place in the output.

    `is_complete` says of calls whether their arguments are whole, and is true for all else.
    """

    @property
    def is_complete(self) -> bool: ...

    def opened(self) -> Iterator[Event]: ...

    def closed(self, status: schemas.ItemStatus) -> Iterator[Event]: ...

    def item(self, status: schemas.ItemStatus) -> schemas.OutputItem: ...


@dataclass(slots=True)
class Numbers:
    """Counts the events of one response."""

    next: int = 0

    def __call__(self) -> int:
        number, self.next = self.next, self.next + 1
        return number


def added(number: int, output_index: int, item: schemas.OutputItem) -> Event:
    return schemas.OutputItemAddedEvent(
        type="response.output_item.added", sequence_number=number, output_index=output_index, item=item
    )


def done(number: int, output_index: int, item: schemas.OutputItem) -> Event:
    return schemas.OutputItemDoneEvent(
        type="response.output_item.done", sequence_number=number, output_index=output_index, item=item
    )


def part_done(number: int, item_id: str, output_index: int, part: schemas.StreamedPart) -> Event:
    return schemas.ContentPartDoneEvent(
        type="response.content_part.done",
        sequence_number=number,
        item_id=item_id,
        output_index=output_index,
        content_index=0,
        part=part,
    )


@dataclass(slots=True)
class OpenMessage:
    numbers: Numbers
    output_index: int
    id: str = field(default_factory=lambda: new_id("message"))
    text: str = ""
    logprobs: list[schemas.TokenLogprobs] = field(default_factory=list)
    is_complete: bool = True

    def item(self, status: schemas.ItemStatus) -> schemas.OutputMessage:
        return schemas.OutputMessage(
            type="message", id=self.id, role="assistant", status=status, content=[self._part()]
        )

    def _part(self) -> schemas.AnswerTextPart:
        return schemas.AnswerTextPart(type="output_text", text=self.text, annotations=[], logprobs=self.logprobs)

    def opened(self) -> Iterator[Event]:
        empty = schemas.OutputMessage(type="message", id=self.id, role="assistant", status="in_progress", content=[])
        yield added(self.numbers(), self.output_index, empty)
        yield schemas.ContentPartAddedEvent(
            type="response.content_part.added",
            sequence_number=self.numbers(),
            item_id=self.id,
            output_index=self.output_index,
            content_index=0,
            part=self._part(),
        )

    def more(self, text: str, logprobs: list[schemas.TokenLogprobs]) -> Event:
        self.text += text
        self.logprobs = self.logprobs + logprobs
        return schemas.OutputTextDeltaEvent(
            type="response.output_text.delta",
            sequence_number=self.numbers(),
            item_id=self.id,
            output_index=self.output_index,
            content_index=0,
            delta=text,
            logprobs=logprobs,
        )

    def closed(self, status: schemas.ItemStatus) -> Iterator[Event]:
        yield schemas.OutputTextDoneEvent(
            type="response.output_text.done",
            sequence_number=self.numbers(),
            item_id=self.id,
            output_index=self.output_index,
            content_index=0,
            text=self.text,
            logprobs=self.logprobs,
        )
        yield part_done(self.numbers(), self.id, self.output_index, self._part())
        yield done(self.numbers(), self.output_index, self.item(status))


@dataclass(slots=True)
class OpenReasoning:
    numbers: Numbers
    output_index: int
    seals: bool
    id: str = field(default_factory=lambda: new_id("reasoning"))
    text: str = ""
    is_complete: bool = True

    def item(self, status: schemas.ItemStatus) -> schemas.ReasoningItem:
        found = schemas.ReasoningItem(type="reasoning", id=self.id, summary=[], content=[self._part()], status=status)
        if self.seals:
            found.encrypted_content = sealed(self.text)
        return found

    def _part(self) -> schemas.ReasoningTextPart:
        return schemas.ReasoningTextPart(type="reasoning_text", text=self.text)

    def opened(self) -> Iterator[Event]:
        empty = schemas.ReasoningItem(type="reasoning", id=self.id, summary=[], content=[], status="in_progress")
        yield added(self.numbers(), self.output_index, empty)
        yield schemas.ContentPartAddedEvent(
            type="response.content_part.added",
            sequence_number=self.numbers(),
            item_id=self.id,
            output_index=self.output_index,
            content_index=0,
            part=self._part(),
        )

    def more(self, text: str) -> Event:
        self.text += text
        return schemas.ReasoningTextDeltaEvent(
            type="response.reasoning_text.delta",
            sequence_number=self.numbers(),
            item_id=self.id,
            output_index=self.output_index,
            content_index=0,
            delta=text,
        )

    def closed(self, status: schemas.ItemStatus) -> Iterator[Event]:
        yield schemas.ReasoningTextDoneEvent(
            type="response.reasoning_text.done",
            sequence_number=self.numbers(),
            item_id=self.id,
            output_index=self.output_index,
            content_index=0,
            text=self.text,
        )
        yield part_done(self.numbers(), self.id, self.output_index, self._part())
        yield done(self.numbers(), self.output_index, self.item(status))


@dataclass(slots=True)
class OpenCall:
    """A call of a function: its arguments are JSON text, as the model writes it."""

    numbers: Numbers
    output_index: int
    call_id: str
    tool: KnownTool
    id: str = field(default_factory=lambda: new_id("function_call"))
    arguments: str = ""

    def item(self, status: schemas.ItemStatus) -> schemas.FunctionCallItem:
        found = schemas.FunctionCallItem(
            type="function_call",
            id=self.id,
            call_id=self.call_id,
            name=self.tool.name,
            arguments=self.arguments,
            status=status,
        )
        if self.tool.namespace is not None:
            found.namespace = self.tool.namespace
        return found

    def opened(self) -> Iterator[Event]:
        yield added(self.numbers(), self.output_index, self.item("in_progress"))

    def more(self, text: str) -> Iterator[Event]:
        self.arguments += text
        yield schemas.FunctionCallArgumentsDeltaEvent(
            type="response.function_call_arguments.delta",
            sequence_number=self.numbers(),
            item_id=self.id,
            output_index=self.output_index,
            delta=text,
        )

    def closed(self, status: schemas.ItemStatus) -> Iterator[Event]:
        yield schemas.FunctionCallArgumentsDoneEvent(
            type="response.function_call_arguments.done",
            sequence_number=self.numbers(),
            item_id=self.id,
            output_index=self.output_index,
            name=self.tool.name,
            arguments=self.arguments,
        )
        yield done(self.numbers(), self.output_index, self.item(status))

    @property
    def is_complete(self) -> bool:
        try:
            json.loads(self.arguments)
        except (ValueError, RecursionError):
            return False
        return True


@dataclass(slots=True)
class OpenCustomCall:
    """A call of a custom tool: its text is taken out of the JSON that the model writes around it."""

    numbers: Numbers
    output_index: int
    call_id: str
    tool: KnownTool
    id: str = field(default_factory=lambda: new_id("custom_tool_call"))
    input: str = ""
    _argument: TextArgument = field(default_factory=TextArgument)

    def item(self, status: schemas.ItemStatus) -> schemas.CustomToolCallItem:
        found = schemas.CustomToolCallItem(
            type="custom_tool_call",
            id=self.id,
            call_id=self.call_id,
            name=self.tool.name,
            input=self.input,
            status=status,
        )
        if self.tool.namespace is not None:
            found.namespace = self.tool.namespace
        return found

    def opened(self) -> Iterator[Event]:
        yield added(self.numbers(), self.output_index, self.item("in_progress"))

    def more(self, text: str) -> Iterator[Event]:
        yield from self._said(self._argument.feed(text))

    def _said(self, text: str) -> Iterator[Event]:
        if text:
            self.input += text
            yield schemas.CustomToolCallInputDeltaEvent(
                type="response.custom_tool_call_input.delta",
                sequence_number=self.numbers(),
                item_id=self.id,
                output_index=self.output_index,
                delta=text,
            )

    def closed(self, status: schemas.ItemStatus) -> Iterator[Event]:
        yield from self._said(self._argument.end())
        yield schemas.CustomToolCallInputDoneEvent(
            type="response.custom_tool_call_input.done",
            sequence_number=self.numbers(),
            item_id=self.id,
            output_index=self.output_index,
            input=self.input,
        )
        yield done(self.numbers(), self.output_index, self.item(status))

    @property
    def is_complete(self) -> bool:
        return self._argument.is_complete
