"""A message on the wire, as events or whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from pydantic_core import from_json

from specserve.engine.api import FinishReason
from specserve.generated import schemas
from specserve.generated.base import Serialised
from specserve.handlers.anthropic.blocks import Blocks, Closed, Grown, Opened
from specserve.handlers.chat.events import ChatEvent, ChatFinished, ContentDelta
from specserve.handlers.chat.preparation import PreparedChat
from specserve.handlers.sse import TextEvents

MessageEvent = (
    schemas.MessageStart
    | schemas.BlockStart
    | schemas.BlockDelta
    | Serialised[schemas.BlockDelta]
    | schemas.BlockStop
    | schemas.MessageDelta
    | schemas.MessageStop
)
Piece = schemas.TextPiece | schemas.InputPiece | schemas.ThinkingPiece


@dataclass(slots=True)
class OpenBlock:
    """A block under way. Its text is only kept when the message is sent whole."""

    start: Opened
    text: str = ""


@dataclass(slots=True)
class MessageReply:
    """Writes one answer, once: `events` or `whole`."""

    id: str
    model: str
    chat: PreparedChat
    num_asked_tokens: int
    """The request's max_tokens, which may be more than there was room for."""
    num_output_tokens: int = 0
    num_thinking_tokens: int = 0
    num_cached_tokens: int = 0
    _blocks: Blocks = field(default_factory=Blocks)

    async def whole(self, answer: AsyncGenerator[ChatEvent, None]) -> schemas.MessageReply:
        content: list[schemas.ReplyText | schemas.ReplyThinking | schemas.ReplyToolUse] = []
        reason: schemas.MessageStopReason | None = None
        sequence: str | None = None
        current = OpenBlock(Opened("text"))
        async with aclosing(answer):
            async for event in answer:
                self._count(event)
                for part in self._blocks.feed(event):
                    if isinstance(part, Opened):
                        current = OpenBlock(part)
                    elif isinstance(part, Grown):
                        current.text += part.text
                    else:
                        content.append(complete(current))
                if isinstance(event, ChatFinished):
                    reason, sequence = self._ending(event)
        return self._message(content, reason, sequence)

    async def events(self, answer: AsyncGenerator[ChatEvent, None]) -> AsyncGenerator[MessageEvent, None]:
        """The message without content, its blocks one after the other, how it ended."""
        is_begun = False
        num_blocks = 0
        signature = sha256()
        kind = ""
        grown: TextEvents[schemas.BlockDelta] | None = None
        async with aclosing(answer):
            async for event in answer:
                self._count(event)
                if not is_begun:
                    is_begun = True
                    yield schemas.MessageStart(type="message_start", message=self._message([], None, None))
                for part in self._blocks.feed(event):
                    index = num_blocks - 1
                    if isinstance(part, Opened):
                        index, kind, signature = num_blocks, part.kind, sha256()
                        num_blocks += 1
                        grown = TextEvents(delta_of(kind, index))
                        block = complete(OpenBlock(part), is_start=True)
                        yield schemas.BlockStart(type="content_block_start", index=index, content_block=block)
                    elif isinstance(part, Grown) and grown is not None:
                        if kind == "thinking":
                            signature.update(part.text.encode("utf-8", "surrogatepass"))
                        yield grown(part.text)
                    elif isinstance(part, Closed):
                        if kind == "thinking":
                            piece = schemas.SignaturePiece(type="signature_delta", signature=signature.hexdigest())
                            yield schemas.BlockDelta(type="content_block_delta", index=index, delta=piece)
                        yield schemas.BlockStop(type="content_block_stop", index=index)
                if isinstance(event, ChatFinished):
                    for last in self._last_events(event):
                        yield last

    def _last_events(self, event: ChatFinished) -> Iterator[MessageEvent]:
        reason, sequence = self._ending(event)
        end = schemas.MessageEnd(stop_reason=reason, stop_sequence=sequence)
        yield schemas.MessageDelta(type="message_delta", delta=end, usage=self._usage())
        yield schemas.MessageStop(type="message_stop")

    def _count(self, event: ChatEvent) -> None:
        if isinstance(event, ContentDelta):
            self.num_output_tokens += len(event.token_ids) + event.num_hidden_tokens
            self.num_thinking_tokens += event.num_reasoning_tokens
            self.num_cached_tokens = min(event.num_cached_tokens, len(self.chat.prompt))

    def _ending(self, event: ChatFinished) -> tuple[schemas.MessageStopReason, str | None]:
        """Why it ended, and the text it was told to stop at, if it wrote one."""
        if event.reason is FinishReason.LENGTH:
            room = self.chat.served.engine.model.max_model_len - len(self.chat.prompt)
            limit = self.chat.request.params.max_tokens
            is_full = limit == room and limit < self.num_asked_tokens
            return ("model_context_window_exceeded" if is_full else "max_tokens"), None
        if isinstance(event.stop_reason, str):
            return "stop_sequence", event.stop_reason
        return ("tool_use" if event.calls_complete else "end_turn"), None

    def _message(
        self,
        content: list[schemas.ReplyText | schemas.ReplyThinking | schemas.ReplyToolUse],
        reason: schemas.MessageStopReason | None,
        sequence: str | None,
    ) -> schemas.MessageReply:
        return schemas.MessageReply(
            id=self.id,
            type="message",
            role="assistant",
            model=self.model,
            content=content,
            stop_reason=reason,
            stop_sequence=sequence,
            usage=self._usage(),
        )

    def _usage(self) -> schemas.MessageUsage:
        usage = schemas.MessageUsage(
            input_tokens=len(self.chat.prompt) - self.num_cached_tokens,
            cache_read_input_tokens=self.num_cached_tokens,
            cache_creation_input_tokens=0,
            output_tokens=self.num_output_tokens,
            service_tier="standard",
        )
        if self.num_thinking_tokens:
            usage.output_tokens_details = schemas.MessageOutputDetails(thinking_tokens=self.num_thinking_tokens)
        return usage


def complete(
    block: OpenBlock, *, is_start: bool = False
) -> schemas.ReplyText | schemas.ReplyThinking | schemas.ReplyToolUse:
    """The block as it stands; `is_start`: without what only its end brings."""
    match block.start.kind:
        case "text":
            return schemas.ReplyText(type="text", text=block.text)
        case "thinking":
            signature = "" if is_start else sha256(block.text.encode("utf-8", "surrogatepass")).hexdigest()
            return schemas.ReplyThinking(type="thinking", thinking=block.text, signature=signature)
        case "tool_use":
            return schemas.ReplyToolUse(
                type="tool_use", id=block.start.call_id, name=block.start.name, input=read_input(block.text)
            )


def read_input(text: str) -> dict[str, Any]:
    """The input of a call, as far as it was written: an answer that was cut has the beginning of one.

    Clients that fold a stream read it in the same way. What the model wrote instead of JSON is kept as a text.
    """
    if not text.strip():
        return {}
    try:
        found = from_json(text, allow_partial=True)
    except ValueError:
        found = text
    return found if isinstance(found, dict) else {"arguments": text}


def delta_of(kind: str, index: int) -> Any:
    """Makes the event for more of block `index`."""

    def piece(text: str) -> Piece:
        match kind:
            case "text":
                return schemas.TextPiece(type="text_delta", text=text)
            case "thinking":
                return schemas.ThinkingPiece(type="thinking_delta", thinking=text)
        return schemas.InputPiece(type="input_json_delta", partial_json=text)

    return lambda text: schemas.BlockDelta(type="content_block_delta", index=index, delta=piece(text))
