"""From what happens in an answer to the events of its stream: a state machine that can only write legal sequences.

At most one item is open at any time, and in it at most one part. What is opened is closed before something else begins,
sequence numbers count every event, and nothing follows the last one. The response of the last event is what a client
that does not stream gets, so the two cannot disagree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from specserve.engine.api import FinishReason, TokenLogprobs
from specserve.generated import schemas
from specserve.generated.errors import ApiError
from specserve.handlers.chat.events import (
    ChatEvent,
    ChatFinished,
    ContentDelta,
    ReasoningDelta,
    ToolCallArguments,
    ToolCallStart,
)
from specserve.handlers.openai.reply import UsageCount
from specserve.handlers.openai.responses.open_items import (
    Event,
    Numbers,
    OpenCall,
    OpenCustomCall,
    OpenItem,
    OpenMessage,
    OpenReasoning,
)
from specserve.handlers.openai.responses.tools import KnownTool

UNKNOWN_TOOL = "function"


@dataclass(slots=True, kw_only=True)
class ResponseWriter:
    """Writes one response. `response` is what it begins as; what is written goes into copies of it.

    known       the tools by the names the model calls them by
    max_calls   calls beyond them are left out
    seals       reasoning comes packed for the next turn, too
    describe    a token's log probabilities on the wire
    """

    response: schemas.Response
    count: UsageCount
    known: Mapping[str, KnownTool]
    describe: Callable[[TokenLogprobs], schemas.TokenLogprobs]
    max_calls: int | None = None
    seals: bool = False
    _numbers: Numbers = field(default_factory=Numbers)
    _open: OpenItem | None = None
    _output: list[schemas.OutputItem] = field(default_factory=list)
    _waiting: list[TokenLogprobs] = field(default_factory=list)
    """Log probabilities of tokens whose text is not there yet."""
    _call_index: int = -1
    _has_begun: bool = False
    _has_ended: bool = False

    def created(self) -> Iterator[Event]:
        yield schemas.ResponseCreatedEvent(
            type="response.created", sequence_number=self._numbers(), response=self.response
        )

    def queued(self) -> Iterator[Event]:
        """For responses that are made in the background."""
        self._set(status="queued")
        yield from self.created()
        yield schemas.ResponseQueuedEvent(
            type="response.queued", sequence_number=self._numbers(), response=self.response
        )

    def begun(self) -> Iterator[Event]:
        self._set(status="in_progress")
        if not self._numbers.next:
            yield from self.created()
        self._has_begun = True
        yield schemas.ResponseInProgressEvent(
            type="response.in_progress", sequence_number=self._numbers(), response=self.response
        )

    def feed(self, event: ChatEvent) -> Iterator[Event]:
        """The events that follow from one of the answer's; for the last one those that end the response."""
        if self._has_ended or not self._has_begun:
            raise RuntimeError("a response is written from its beginning to its end")
        match event:
            case ContentDelta():
                yield from self._content(event)
            case ReasoningDelta():
                yield from self._reasoning(event.text)
            case ToolCallStart():
                yield from self._call(event)
            case ToolCallArguments():
                yield from self._arguments(event)
            case ChatFinished():
                yield from self._finished(event)

    def failed(self, error: ApiError) -> Iterator[Event]:
        """The end of a response that something went wrong with; what was being written stays incomplete."""
        if not self._has_begun:
            yield from self.begun()
        if self._open is not None:
            self._output.append(self._open.item("incomplete"))
            self._open = None
        code = error.code if error.status < 500 else "server_error"
        self._end("failed")
        self.response.error = schemas.ResponseError(
            code=code, message=error.message, param=error.param, type=error.type
        )
        yield schemas.ResponseFailedEvent(
            type="response.failed", sequence_number=self._numbers(), response=self.response
        )

    def _set(self, **fields: object) -> None:
        """A new response: those of earlier events stay what they were."""
        self.response = self.response.model_copy(update=fields)

    def _content(self, event: ContentDelta) -> Iterator[Event]:
        self.count.add(event)
        is_said = not event.num_reasoning_tokens and not isinstance(self._open, OpenCall | OpenCustomCall)
        if event.logprobs is not None and (is_said or event.text):
            self._waiting += event.logprobs
        if not event.text:
            return
        message = self._open
        if not isinstance(message, OpenMessage):
            yield from self._closed("completed")
            message = OpenMessage(self._numbers, len(self._output))
            yield from self._opened(message)
        logprobs, self._waiting = [self.describe(token) for token in self._waiting], []
        yield message.more(event.text, logprobs)

    def _reasoning(self, text: str) -> Iterator[Event]:
        self._waiting = []
        if not text:
            return
        thought = self._open
        if not isinstance(thought, OpenReasoning):
            yield from self._closed("completed")
            thought = OpenReasoning(self._numbers, len(self._output), self.seals)
            yield from self._opened(thought)
        yield thought.more(text)

    def _call(self, event: ToolCallStart) -> Iterator[Event]:
        self._waiting = []
        yield from self._closed("completed")
        if self.max_calls is not None and event.call_index >= self.max_calls:
            return
        self._call_index = event.call_index
        tool = self.known.get(event.name) or KnownTool(UNKNOWN_TOOL, event.name)
        kind = OpenCustomCall if tool.kind == "custom" else OpenCall
        yield from self._opened(kind(self._numbers, len(self._output), event.call_id, tool))

    def _arguments(self, event: ToolCallArguments) -> Iterator[Event]:
        if self.max_calls is not None and event.call_index >= self.max_calls:
            return
        call = self._open
        if not isinstance(call, OpenCall | OpenCustomCall) or event.call_index != self._call_index:
            raise RuntimeError("arguments of a call that is not open")
        if event.text:
            yield from call.more(event.text)

    def _finished(self, event: ChatFinished) -> Iterator[Event]:
        is_cut = event.reason is FinishReason.LENGTH
        if self._open is None and not self._output:
            yield from self._opened(OpenMessage(self._numbers, len(self._output)))
        is_whole = self._open is None or (
            self._open.is_complete and (not is_cut or isinstance(self._open, OpenCall | OpenCustomCall))
        )
        yield from self._closed("completed" if is_whole else "incomplete")
        if is_cut:
            self._end("incomplete")
            self.response.incomplete_details = schemas.IncompleteDetails(reason="max_output_tokens")
            yield schemas.ResponseIncompleteEvent(
                type="response.incomplete", sequence_number=self._numbers(), response=self.response
            )
            return
        self._end("completed")
        self.response.completed_at = int(time.time())
        yield schemas.ResponseCompletedEvent(
            type="response.completed", sequence_number=self._numbers(), response=self.response
        )

    def _opened(self, item: OpenItem) -> Iterator[Event]:
        self._open = item
        yield from item.opened()

    def _closed(self, status: schemas.ItemStatus) -> Iterator[Event]:
        if self._open is not None:
            item, self._open = self._open, None
            yield from item.closed(status)
            self._output.append(item.item(status))

    def _end(self, status: schemas.ResponseStatus) -> None:
        self._has_ended = True
        self._set(status=status, output=self._output, usage=self._usage())

    def _usage(self) -> schemas.ResponseUsage:
        usage = self.count.usage()
        cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
        return schemas.ResponseUsage(
            input_tokens=usage.prompt_tokens,
            input_tokens_details=schemas.InputTokensDetails(cached_tokens=cached or 0, cache_write_tokens=0),
            output_tokens=usage.completion_tokens,
            output_tokens_details=schemas.OutputTokensDetails(reasoning_tokens=self.count.num_reasoning_tokens),
            total_tokens=usage.total_tokens,
        )
