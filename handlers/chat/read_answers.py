"""Between the engine's text and the reply: content events go in, reasoning and tool calls come out of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from specserve.engine.api import FinishReason
from specserve.handlers.chat.answer_pieces import (
    AnswerParser,
    CallArguments,
    CallEnd,
    CallStart,
    Content,
    Piece,
    Reasoning,
    ReasoningEnd,
)
from specserve.handlers.chat.events import (
    ChatEvent,
    ChatFinished,
    ContentDelta,
    ReasoningDelta,
    ToolCallArguments,
    ToolCallStart,
)

THOUGHTS = (Reasoning, ReasoningEnd)


@dataclass(slots=True)
class ChoiceReader:
    """One choice under way. Calls beyond `max_calls` are left out."""

    index: int
    parser: AnswerParser
    new_id: Callable[[], str]
    max_calls: int | None = None
    shows_reasoning: bool = True
    num_calls: int = 0
    has_open_call: bool = False
    is_thinking: bool = False
    last: ContentDelta | None = None

    def events(self, delta: ContentDelta, pieces: Sequence[Piece]) -> Iterable[ChatEvent]:
        """The first is the content, with the tokens that all of this came from."""
        self.last = delta
        first = pieces[0] if pieces else None
        if len(pieces) == 1 and isinstance(first, Content) and first.text == delta.text and not self.is_thinking:
            return (delta,)
        return self._taken_apart(delta, pieces)

    def _taken_apart(self, delta: ContentDelta, pieces: Sequence[Piece]) -> Iterator[ChatEvent]:
        first = pieces[0] if pieces else None
        text = first.text if isinstance(first, Content) else ""
        counted = self._counted(delta, pieces)
        yield counted if counted.text == text else replace(counted, text=text)
        yield from self._rest(pieces[1:] if isinstance(first, Content) else pieces)

    def _counted(self, delta: ContentDelta, pieces: Sequence[Piece]) -> ContentDelta:
        """The delta with its tokens counted as reasoning, and hidden if they are to be, when all of it is that."""
        thoughts = [piece for piece in pieces if isinstance(piece, THOUGHTS)]
        is_thought = len(thoughts) == len(pieces) and (self.is_thinking or bool(thoughts))
        if thoughts:
            self.is_thinking = isinstance(thoughts[-1], Reasoning)
        if not is_thought:
            return delta
        num_tokens = len(delta.token_ids)
        if self.shows_reasoning:
            return replace(delta, num_reasoning_tokens=num_tokens)
        return replace(
            delta, token_ids=(), logprobs=None, num_reasoning_tokens=num_tokens, num_hidden_tokens=num_tokens
        )

    def end(self, event: ChatFinished) -> Iterator[ChatEvent]:
        is_stopped = isinstance(event.stop_reason, str)  # a stop string can match anywhere, also within arguments
        yield from self._rest(self.parser.finish(is_cut=is_stopped or event.reason is FinishReason.LENGTH))
        is_whole = not (is_stopped and self.has_open_call)
        yield replace(event, calls_complete=True) if self.num_calls > 0 and is_whole else event

    def _rest(self, pieces: Sequence[Piece]) -> Iterator[ChatEvent]:
        for piece in pieces:
            if isinstance(piece, Content):
                yield self._more_content(piece.text)
            elif isinstance(piece, Reasoning) and self.shows_reasoning:
                yield ReasoningDelta(index=self.index, text=piece.text)
            elif isinstance(piece, CallStart):
                self.num_calls += 1
                if not self._is_beyond:
                    self.has_open_call = True
                    call_id = piece.call_id or self.new_id()
                    yield ToolCallStart(
                        index=self.index, call_index=self.num_calls - 1, call_id=call_id, name=piece.name
                    )
            elif isinstance(piece, CallArguments) and not self._is_beyond:
                yield ToolCallArguments(index=self.index, call_index=self.num_calls - 1, text=piece.text)
            elif isinstance(piece, CallEnd) and not self._is_beyond:
                self.has_open_call = False

    def _more_content(self, text: str) -> ContentDelta:
        """Without tokens, which were told already."""
        if self.last is None:
            return ContentDelta(index=self.index, text=text)
        return replace(self.last, text=text, token_ids=(), logprobs=None, prompt_logprobs=None)

    @property
    def _is_beyond(self) -> bool:
        return self.max_calls is not None and self.num_calls > self.max_calls


class AnswersReader:
    """Takes the text of all choices of an answer apart; `parser` makes the parser of a choice.

    Token ids and log probabilities stay with the content events; those of reasoning are left out when it is not shown.
    Calls have ids of their own or get a `new_id`.
    """

    def __init__(
        self,
        parser: Callable[[], AnswerParser],
        new_id: Callable[[], str],
        *,
        max_calls: int | None = None,
        shows_reasoning: bool = True,
    ) -> None:
        self._parser, self._new_id = parser, new_id
        self._max_calls, self._shows_reasoning = max_calls, shows_reasoning
        self._readers: dict[int, ChoiceReader] = {}

    def __call__(self, event: ChatEvent) -> Iterable[ChatEvent]:
        """What has become of an event. They come in their order."""
        reader = self._readers.get(event.index)
        if reader is None:
            reader = ChoiceReader(event.index, self._parser(), self._new_id, self._max_calls, self._shows_reasoning)
            self._readers[event.index] = reader
        if isinstance(event, ContentDelta):
            return reader.events(event, reader.parser.feed(event.text))
        return reader.end(event) if isinstance(event, ChatFinished) else (event,)


async def read_answers(events: AsyncGenerator[ChatEvent, None], read: AnswersReader) -> AsyncGenerator[ChatEvent, None]:
    """The events of answers with their text taken apart."""
    try:
        async for event in events:
            for each in read(event):
                yield each
    finally:
        await events.aclose()
