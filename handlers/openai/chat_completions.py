"""POST /v1/chat/completions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from specserve.engine.api import GenerationRequest, ModelInfo, Tokenizer, TokenLogprobs
from specserve.generated import schemas
from specserve.generated.errors import InvalidParameterCombination, InvalidPrompt
from specserve.generated.operations import ChatApi
from specserve.handlers import fields
from specserve.handlers.chat.conversation import Conversation
from specserve.handlers.chat.events import ChatEvent, ContentDelta
from specserve.handlers.chat.fold import fold
from specserve.handlers.chat.pipeline import siblings, stream_chat
from specserve.handlers.chat.template import ChatTemplate
from specserve.handlers.context import RequestContext
from specserve.handlers.limits import Limits
from specserve.handlers.model_directory import ModelDirectory
from specserve.handlers.openai.messages import to_conversation
from specserve.handlers.openai.reply import (
    WIRE_REASONS,
    Identity,
    TokenNames,
    UsageCount,
    check_common,
    include_usage,
    prompt_logprobs,
)
from specserve.handlers.sampling import num_alternatives, room_for_answer, sampling_params


class ChatCompletions(ChatApi[RequestContext]):
    """`template` is asked for at each request: it is known only once the model is loaded."""

    def __init__(
        self, directory: ModelDirectory, template: Callable[[Tokenizer], ChatTemplate | None], limits: Limits
    ) -> None:
        self._directory, self._template, self._limits = directory, template, limits

    async def create_chat_completion(
        self, body: schemas.ChatCompletionRequest, context: RequestContext
    ) -> schemas.ChatCompletion | AsyncIterator[schemas.ChatCompletionChunk]:
        fields.CHAT.check(body)
        check_common(body, body.n or 1, self._limits.max_choices)
        served = self._directory.resolve(body.model)
        tokenizer = served.engine.tokenizer
        conversation = to_conversation(body)
        prompt = await asyncio.to_thread(self._prompt, tokenizer, conversation, body.add_special_tokens)
        wanted = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
        params = sampling_params(
            body,
            served.defaults,
            served.engine.model,
            room=room_for_answer(len(prompt), served.engine.model, param="messages"),
            max_tokens=wanted,
            logprobs=num_logprobs(body, self._limits, served.engine.model),
            tokenizer=tokenizer,
            max_logprobs=self._limits.max_logprobs,
        )
        identity = Identity.of("chatcmpl", body, context, served)
        request = GenerationRequest(
            request_id=identity.engine_id,
            prompt_token_ids=prompt,
            params=params,
            cache_salt=body.cache_salt or "",
            priority=body.priority,
        )
        reply = ChatReply(identity, TokenNames(tokenizer, bool(body.return_tokens_as_token_ids)), body, prompt)
        events = stream_chat(served.engine, siblings(request, body.n or 1))
        return reply.chunks(events) if body.stream else await reply.whole(events)

    def _prompt(self, tokenizer: Tokenizer, conversation: Conversation, add_special_tokens: bool) -> list[int]:
        """Template and tokenizer; runs in a worker thread. Raises InvalidPrompt."""
        template = self._template(tokenizer)
        if template is None:
            raise InvalidPrompt(
                "the model has no chat template; start the server with --chat-template, or use /v1/completions",
                param="messages",
            )
        token_ids = tokenizer.encode(template.render(conversation), add_special_tokens=add_special_tokens)
        if not token_ids:
            raise InvalidPrompt("these messages give an empty prompt", param="messages")
        return token_ids


def num_logprobs(body: schemas.ChatCompletionRequest, limits: Limits, model: ModelInfo) -> int | None:
    """Alternatives per token, None for no log probabilities at all."""
    if not body.logprobs:
        if body.top_logprobs:
            raise InvalidParameterCombination("top_logprobs needs logprobs: true", param="top_logprobs")
        return None
    return num_alternatives(body.top_logprobs or 0, limits.max_logprobs, model, param="top_logprobs")


@dataclass(frozen=True, slots=True)
class ChatReply:
    """Writes one answer, as pieces or whole."""

    identity: Identity
    names: TokenNames
    body: schemas.ChatCompletionRequest
    prompt: list[int]

    async def whole(self, events: AsyncGenerator[ChatEvent, None]) -> schemas.ChatCompletion:
        results = await fold(events, self.body.n or 1)
        count = UsageCount(len(self.prompt), self.body.n or 1)
        choices = []
        for result in results:
            count.add(result)
            choice = schemas.Choice(
                index=result.index,
                message=schemas.ResponseMessage(role="assistant", content=result.text, refusal=None),
                logprobs=self._logprobs(result.logprobs),
                finish_reason=WIRE_REASONS[result.reason],  # type: ignore[index, arg-type]
                stop_reason=result.stop_reason,
            )
            if self.body.return_token_ids:
                choice.token_ids = result.token_ids
            choices.append(choice)
        reply = schemas.ChatCompletion(
            id=self.identity.id,
            object="chat.completion",
            created=self.identity.created,
            model=self.identity.model,
            choices=choices,
            usage=count.usage(),
            system_fingerprint=self.identity.fingerprint,
        )
        if self.body.return_token_ids:
            reply.prompt_token_ids = self.prompt
        if results[0].prompt_logprobs is not None:
            reply.prompt_logprobs = prompt_logprobs(self.names, results[0].prompt_logprobs)
        return reply

    async def chunks(
        self, events: AsyncGenerator[ChatEvent, None]
    ) -> AsyncGenerator[schemas.ChatCompletionChunk, None]:
        """Per choice a role chunk, its text, one finishing chunk; at the end the usage if it was asked for."""
        at_end, always = include_usage(self.body)
        count = UsageCount(len(self.prompt), self.body.n or 1)
        opened: set[int] = set()

        def chunk(choice: schemas.ChunkChoice) -> schemas.ChatCompletionChunk:
            made = self._chunk([choice])
            if at_end:
                made.usage = count.usage() if always else None
            return made

        async with aclosing(events):
            async for event in events:
                if isinstance(event, ContentDelta):
                    if event.index not in opened:
                        opened.add(event.index)
                        role = schemas.ChoiceDelta(role="assistant", content="")
                        first = chunk(schemas.ChunkChoice(index=event.index, delta=role, finish_reason=None))
                        if self.body.return_token_ids:
                            first.prompt_token_ids = self.prompt
                        if event.prompt_logprobs is not None:
                            first.prompt_logprobs = prompt_logprobs(self.names, event.prompt_logprobs)
                        yield first
                    count.add(event)
                    choice = self._piece(event)
                    if choice is not None:
                        yield chunk(choice)
                else:
                    yield chunk(
                        schemas.ChunkChoice(
                            index=event.index,
                            delta=schemas.ChoiceDelta(),
                            finish_reason=WIRE_REASONS[event.reason],  # type: ignore[arg-type]
                            stop_reason=event.stop_reason,
                        )
                    )
        if at_end:
            last = self._chunk([])
            last.usage = count.usage()
            yield last

    def _piece(self, event: ContentDelta) -> schemas.ChunkChoice | None:
        """None when the client would learn nothing from it."""
        if not event.text and event.logprobs is None and not self.body.return_token_ids:
            return None
        delta = schemas.ChoiceDelta(content=event.text)
        choice = schemas.ChunkChoice(index=event.index, delta=delta, finish_reason=None)
        if event.logprobs is not None:
            choice.logprobs = self._logprobs(list(event.logprobs))
        if self.body.return_token_ids:
            choice.token_ids = list(event.token_ids)
        return choice

    def _chunk(self, choices: list[schemas.ChunkChoice]) -> schemas.ChatCompletionChunk:
        return schemas.ChatCompletionChunk(
            id=self.identity.id,
            object="chat.completion.chunk",
            created=self.identity.created,
            model=self.identity.model,
            choices=choices,
            system_fingerprint=self.identity.fingerprint,
        )

    def _logprobs(self, tokens: list[TokenLogprobs] | None) -> schemas.ChoiceLogprobs | None:
        if tokens is None:
            return None
        content = []
        for token in tokens:
            sampled = self.names.describe(token.sampled)
            content.append(
                schemas.TokenLogprobs(
                    token=sampled.token,
                    logprob=sampled.logprob,
                    bytes=sampled.bytes,
                    top_logprobs=[self.names.describe(candidate) for candidate in token.top],
                )
            )
        return schemas.ChoiceLogprobs(content=content, refusal=None)
