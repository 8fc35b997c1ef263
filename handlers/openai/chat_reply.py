"""A chat answer on the wire, as pieces or whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import lru_cache

from pydantic_core import to_json

from specserve.engine.api import FinishReason, TokenLogprobs
from specserve.generated import schemas
from specserve.generated.base import Serialised
from specserve.handlers.chat.events import (
    ChatEvent,
    ChatFinished,
    ContentDelta,
    ReasoningDelta,
    ToolCallArguments,
    ToolCallStart,
)
from specserve.handlers.chat.fold import ChoiceResult
from specserve.handlers.openai.prepare_chat import PreparedCompletion
from specserve.handlers.openai.reply import (
    WIRE_REASONS,
    TokenNames,
    TokenWriter,
    UsageCount,
    include_usage,
    prompt_logprobs,
)
from specserve.handlers.sse import TextEvents

ChunkEvent = schemas.ChatCompletionChunk | Serialised[schemas.ChatCompletionChunk]


constant = lru_cache(maxsize=64)(to_json)
"""The JSON of what many answers have in common."""


def is_plain(result: ChoiceResult) -> bool:
    """Whether the answer is text and nothing else."""
    return result.logprobs is None and result.prompt_logprobs is None and not (result.calls or result.reasoning)


@dataclass(frozen=True, slots=True)
class ChatReply:
    """Writes one answer, as pieces or whole."""

    names: TokenNames
    body: schemas.ChatCompletionRequest
    prepared: PreparedCompletion
    _writers: dict[int, TokenWriter] = field(default_factory=dict)

    async def whole(
        self, results: Sequence[ChoiceResult]
    ) -> schemas.ChatCompletion | Serialised[schemas.ChatCompletion]:
        count = UsageCount(len(self.prepared.chat.prompt), self.body.n or 1)
        for result in results:
            count.add(result)
        if not (self.body.return_token_ids or self.body.return_prompt_text) and all(map(is_plain, results)):
            return self._plain(results, count)
        choices = []
        for result in results:
            choice = schemas.Choice(
                index=result.index,
                message=self._message(result),
                logprobs=self._logprobs(result.index, result.logprobs),
                finish_reason=self._finish_reason(result),
                stop_reason=result.stop_reason,
            )
            if self.body.return_token_ids:
                choice.token_ids = result.token_ids
            choices.append(choice)
        reply = schemas.ChatCompletion(
            id=self.prepared.identity.id,
            object="chat.completion",
            created=self.prepared.identity.created,
            model=self.prepared.identity.model,
            choices=choices,
            usage=count.usage(),
            system_fingerprint=self.prepared.identity.fingerprint,
        )
        await self._add_prompt(reply, results[0].prompt_logprobs)
        return reply

    def _plain(self, results: Sequence[ChoiceResult], count: UsageCount) -> Serialised[schemas.ChatCompletion]:
        """Nothing but text, as most answers are: the same JSON as the generated types write, at a tenth of the cost."""
        role, echo = constant(self.prepared.role), self.prepared.echo
        choices = [
            b'{"stop_reason":%b,"index":%d,"message":{"role":%b,"content":%b,"refusal":null,"annotations":[]},'
            b'"logprobs":null,"finish_reason":"%b"}'
            % (
                to_json(result.stop_reason),
                result.index,
                role,
                to_json(echo + result.text),
                self._finish_reason(result).encode(),
            )
            for result in results
        ]
        identity = self.prepared.identity
        return Serialised(
            b'{"id":%b,"object":"chat.completion","created":%d,"model":%b,"choices":[%b],"usage":%b,'
            b'"system_fingerprint":%b}'
            % (
                to_json(identity.id),
                identity.created,
                constant(identity.model),
                b",".join(choices),
                count.json(),
                constant(identity.fingerprint),
            )
        )

    async def _add_prompt(
        self,
        reply: schemas.ChatCompletion | schemas.ChatCompletionChunk,
        logprobs: Sequence[TokenLogprobs | None] | None,
    ) -> None:
        """What was asked for of it."""
        if logprobs is not None:
            reply.prompt_logprobs = await prompt_logprobs(self.names, logprobs)
        if self.body.return_token_ids:
            reply.prompt_token_ids = self.prepared.chat.prompt
        if self.body.return_prompt_text:
            reply.prompt_text = self.prepared.chat.prompt_text

    def _message(self, result: ChoiceResult) -> schemas.ResponseMessage:
        text = self.prepared.echo + result.text
        is_silent = not text and bool(result.calls or result.reasoning)
        message = schemas.ResponseMessage(
            role=self.prepared.role, content=None if is_silent else text, refusal=None, annotations=[]
        )
        if result.reasoning:
            self._add_reasoning(message, result.reasoning)
        if result.calls and self.prepared.tools.is_legacy:
            call = result.calls[0]
            message.function_call = schemas.FunctionCall(name=call.name, arguments=call.arguments)
        elif result.calls:
            message.tool_calls = [
                schemas.FunctionToolCall(
                    id=call.call_id,
                    type="function",
                    function=schemas.FunctionCall(name=call.name, arguments=call.arguments),
                )
                for call in result.calls
            ]
        return message

    def _add_reasoning(self, part: schemas.ResponseMessage | schemas.ChoiceDelta, text: str) -> None:
        """Under the names this server was told to use: clients read one or the other."""
        if self.prepared.reasoning_field != "reasoning_content":
            part.reasoning = text
        if self.prepared.reasoning_field != "reasoning":
            part.reasoning_content = text

    def _finish_reason(self, end: ChoiceResult | ChatFinished) -> schemas.FinishReason:
        """`tool_calls` when the model chose what to call; a call that was named beforehand just stops."""
        use = self.prepared.chat.use
        if end.reason is FinishReason.STOP and end.calls_complete and use.mode != "named":
            return "function_call" if self.prepared.tools.is_legacy else "tool_calls"
        return WIRE_REASONS[end.reason]  # type: ignore[index, return-value]

    async def chunks(self, events: AsyncGenerator[ChatEvent, None]) -> AsyncGenerator[ChunkEvent, None]:
        """Per choice a role chunk, its text, one finishing chunk; at the end the usage if it was asked for."""
        at_end, always = include_usage(self.body)
        count = UsageCount(len(self.prepared.chat.prompt), self.body.n or 1)
        opened: set[int] = set()

        def chunk(choice: schemas.ChunkChoice, *, counts: bool = always) -> schemas.ChatCompletionChunk:
            made = self._chunk([choice])
            if at_end:
                made.usage = count.usage() if counts else None
            return made

        texts: dict[tuple[type, int], TextEvents[schemas.ChatCompletionChunk]] = {}

        def text_event(event: ContentDelta | ReasoningDelta) -> ChunkEvent:
            key = type(event), event.index
            events = texts.get(key)
            if events is None:
                write = self._said if isinstance(event, ContentDelta) else self._thought
                events = texts[key] = TextEvents(lambda text: chunk(write(event.index, text), counts=False))
            return events(event.text, count.json() if always else None)

        async with aclosing(events):
            async for event in events:
                if isinstance(event, ContentDelta):
                    if event.index not in opened:
                        opened.add(event.index)
                        for number, choice in enumerate(self._opening(event.index)):
                            made = chunk(choice)
                            if number == 0:
                                await self._add_prompt(made, event.prompt_logprobs)
                            yield made
                    count.add(event)
                    if self.body.return_token_ids or event.logprobs is not None:
                        yield chunk(self._piece(event))
                    elif event.text:
                        yield text_event(event)
                elif isinstance(event, ChatFinished):
                    yield chunk(
                        schemas.ChunkChoice(
                            index=event.index,
                            delta=schemas.ChoiceDelta(),
                            finish_reason=self._finish_reason(event),
                            stop_reason=event.stop_reason,
                        )
                    )
                elif isinstance(event, ReasoningDelta):
                    yield text_event(event)
                else:
                    yield chunk(self._call_piece(event))
        if at_end:
            last = self._chunk([])
            last.usage = count.usage()
            yield last

    def _opening(self, index: int) -> list[schemas.ChunkChoice]:
        """Whose message it is, and what it begins with. A choice that will be calls has no content."""
        is_calls = self.prepared.chat.use.is_forced and not self.prepared.echo
        deltas = [schemas.ChoiceDelta(role=self.prepared.role, content=None if is_calls else "")]
        if self.prepared.echo:
            deltas.append(schemas.ChoiceDelta(content=self.prepared.echo))
        return [schemas.ChunkChoice(index=index, delta=delta, finish_reason=None) for delta in deltas]

    def _call_piece(self, event: ToolCallStart | ToolCallArguments) -> schemas.ChunkChoice:
        """The first piece of a call has its id, type and name; later ones add to its arguments."""
        if isinstance(event, ToolCallStart):
            function = schemas.FunctionCallDelta(name=event.name, arguments="")
            call = schemas.ToolCallDelta(index=event.call_index, id=event.call_id, type="function", function=function)
        else:
            function = schemas.FunctionCallDelta(arguments=event.text)
            call = schemas.ToolCallDelta(index=event.call_index, function=function)
        delta = (
            schemas.ChoiceDelta(function_call=function)
            if self.prepared.tools.is_legacy
            else schemas.ChoiceDelta(tool_calls=[call])
        )
        return schemas.ChunkChoice(index=event.index, delta=delta, finish_reason=None)

    def _said(self, index: int, text: str) -> schemas.ChunkChoice:
        return schemas.ChunkChoice(index=index, delta=schemas.ChoiceDelta(content=text), finish_reason=None)

    def _thought(self, index: int, text: str) -> schemas.ChunkChoice:
        delta = schemas.ChoiceDelta()
        self._add_reasoning(delta, text)
        return schemas.ChunkChoice(index=index, delta=delta, finish_reason=None)

    def _piece(self, event: ContentDelta) -> schemas.ChunkChoice:
        """Text with its tokens, of which there may be some while the text is held back."""
        delta = schemas.ChoiceDelta(content=event.text) if event.text else schemas.ChoiceDelta()
        choice = schemas.ChunkChoice(index=event.index, delta=delta, finish_reason=None)
        if event.logprobs is not None:
            choice.logprobs = self._logprobs(event.index, event.logprobs)
        if self.body.return_token_ids:
            choice.token_ids = list(event.token_ids)
        return choice

    def _chunk(self, choices: list[schemas.ChunkChoice]) -> schemas.ChatCompletionChunk:
        return schemas.ChatCompletionChunk(
            id=self.prepared.identity.id,
            object="chat.completion.chunk",
            created=self.prepared.identity.created,
            model=self.prepared.identity.model,
            choices=choices,
            system_fingerprint=self.prepared.identity.fingerprint,
        )

    def _logprobs(self, index: int, tokens: Sequence[TokenLogprobs] | None) -> schemas.ChoiceLogprobs | None:
        if tokens is None:
            return None
        if index not in self._writers:
            self._writers[index] = TokenWriter.of(
                self.names,
                skip_special_tokens=self.body.skip_special_tokens,
                continues_text=self.prepared.chat.continues_text,
            )
        return schemas.ChoiceLogprobs(content=[self._writers[index].describe(token) for token in tokens], refusal=None)
