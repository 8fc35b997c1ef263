"""POST /v1/completions: prompts as text or token ids, one or many, each with `n` continuations."""

from __future__ import annotations

from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import cast

from specserve.engine.api import GenerationRequest, Tokenizer, TokenLogprobs
from specserve.generated import schemas
from specserve.generated.errors import InvalidParameterCombination, InvalidPrompt, UnsupportedParameter
from specserve.generated.operations import CompletionsApi
from specserve.handlers import fields
from specserve.handlers.chat.events import ChatEvent, ChatFinished, ContentDelta
from specserve.handlers.chat.fold import fold
from specserve.handlers.chat.pipeline import siblings, stream_chat
from specserve.handlers.context import RequestContext
from specserve.handlers.limits import Limits
from specserve.handlers.model_directory import ModelDirectory
from specserve.handlers.openai.reply import (
    WIRE_REASONS,
    Identity,
    TokenNames,
    UsageCount,
    check_common,
    finite,
    include_usage,
    prompt_logprobs,
)
from specserve.handlers.sampling import check_vocabulary, num_alternatives, room_for_answer, sampling_params
from specserve.handlers.text_work import text_work

DEFAULT_MAX_TOKENS = 16


class Completions(CompletionsApi[RequestContext]):
    def __init__(self, directory: ModelDirectory, limits: Limits) -> None:
        self._directory, self._limits = directory, limits

    async def create_completion(
        self, body: schemas.CompletionRequest, context: RequestContext
    ) -> schemas.Completion | AsyncIterator[schemas.Completion]:
        fields.COMPLETION.check(body)
        check_values(body)
        served = self._directory.resolve(body.model)
        engine, n = served.engine, body.n or 1
        prompts = await text_work(context, read_prompts, body, engine.tokenizer)
        check_common(body, len(prompts) * n, self._limits.max_choices)
        identity = Identity.of("cmpl", body, context, served)
        requests: list[GenerationRequest] = []
        logprobs = num_alternatives(body.logprobs, self._limits.max_logprobs, engine.model, param="logprobs")
        for at, prompt in enumerate(prompts):
            check_vocabulary(prompt, engine.model, param="prompt")
            params = sampling_params(
                body,
                served.defaults,
                engine.model,
                room=room_for_answer(len(prompt), engine.model, param="prompt"),
                max_tokens=DEFAULT_MAX_TOKENS if body.max_tokens is None else max(body.max_tokens, 1),
                logprobs=logprobs,
                tokenizer=engine.tokenizer,
                max_logprobs=self._limits.max_logprobs,
            )
            request = GenerationRequest(
                request_id=f"{identity.engine_id}-{at}",
                prompt_token_ids=prompt,
                params=params,
                cache_salt=body.cache_salt or "",
                priority=body.priority,
            )
            requests += siblings(request, n)
        names = TokenNames(engine.tokenizer, bool(body.return_tokens_as_token_ids))
        reply = CompletionReply(identity, names, body, prompts)
        if body.max_tokens == 0:
            return reply.prompts_only() if body.stream else reply.prompts_alone()
        events = stream_chat(engine, [replace(r, index=r.index + at // n * n) for at, r in enumerate(requests)])
        return reply.chunks(events) if body.stream else await reply.whole(events)


def check_values(body: schemas.CompletionRequest) -> None:
    """Values of offered fields that are not offered, and combinations that make no sense."""
    if body.max_tokens == 0 and not body.echo:
        raise InvalidParameterCombination(
            "max_tokens is 0, which makes sense with echo only; ask for at least 1", param="max_tokens"
        )
    if body.echo and body.logprobs is not None:
        raise UnsupportedParameter(
            "echo together with logprobs is not offered by this server yet; leave one out", param="echo"
        )
    if "best_of" in body.model_fields_set and body.best_of not in (None, 0, 1, body.n):
        raise UnsupportedParameter(
            f"best_of {body.best_of} is not offered by this server yet; leave it out or send n", param="best_of"
        )


def read_prompts(body: schemas.CompletionRequest, tokenizer: Tokenizer) -> list[list[int]]:
    """Token ids of every prompt; may run in a worker thread. Raises InvalidPrompt."""
    prompt = body.prompt
    is_one = isinstance(prompt, str) or (prompt and isinstance(prompt[0], int))
    texts = cast(Sequence[str | list[int]], [prompt] if is_one else prompt or [])
    found = [
        tokenizer.encode(text, add_special_tokens=body.add_special_tokens) if isinstance(text, str) else text
        for text in texts
    ]
    if not found or not all(found):
        raise InvalidPrompt("prompt is empty; send text or token ids to continue", param="prompt")
    return found


@dataclass(slots=True)
class Offsets:
    """Where the next token of each choice begins in its text, in characters.

    A character whose bytes are spread over tokens counts with the token that completes it; a special token that the
    text leaves out counts nothing.
    """

    tokenizer: Tokenizer
    skip_special_tokens: bool
    decoders: dict[int, IncrementalDecoder] = field(default_factory=dict)
    at: dict[int, int] = field(default_factory=dict)

    def advance(self, index: int, token_id: int) -> int:
        """Where this token of choice `index` begins."""
        begins = self.at.get(index, 0)
        spelling = self.tokenizer.spelling
        if spelling is None:
            length = len(self.tokenizer.token_text(token_id))
        elif self.skip_special_tokens and token_id in spelling.special_ids:
            length = 0
        else:
            if index not in self.decoders:
                self.decoders[index] = getincrementaldecoder("utf-8")("replace")
            length = len(self.decoders[index].decode(self.tokenizer.token_bytes(token_id)))
        self.at[index] = begins + length
        return begins


@dataclass(frozen=True, slots=True)
class CompletionReply:
    """Writes the continuations, as pieces or whole. Choice index = prompt index * n + sample index."""

    identity: Identity
    names: TokenNames
    body: schemas.CompletionRequest
    prompts: list[list[int]]

    @property
    def n(self) -> int:
        return self.body.n or 1

    def _count(self) -> UsageCount:
        return UsageCount(sum(len(prompt) for prompt in self.prompts), self.n)

    def _offsets(self) -> Offsets:
        return Offsets(self.names.tokenizer, self.body.skip_special_tokens)

    def _echo(self, index: int) -> str:
        """The prompt as it was sent, or as its tokens read."""
        if not self.body.echo:
            return ""
        sent, at = self.body.prompt, index // self.n
        text = sent if isinstance(sent, str) else sent[at] if sent else None
        if isinstance(text, str):
            return text
        return self.names.tokenizer.decode(self.prompts[at], skip_special_tokens=True)

    async def whole(self, events: AsyncGenerator[ChatEvent, None]) -> schemas.Completion:
        results = await fold(events, len(self.prompts) * self.n)
        count, offsets, choices = self._count(), self._offsets(), []
        for result in results:
            index = result.index
            count.add(result)
            choice = schemas.CompletionChoice(
                index=index,
                text=self._echo(index) + result.text,
                logprobs=self._logprobs(index, result.logprobs, offsets),
                finish_reason=WIRE_REASONS[result.reason],  # type: ignore[index, arg-type]
                stop_reason=result.stop_reason,
            )
            if self.body.return_token_ids:
                choice.prompt_token_ids, choice.token_ids = self.prompts[index // self.n], result.token_ids
            if result.prompt_logprobs is not None:
                choice.prompt_logprobs = await prompt_logprobs(self.names, result.prompt_logprobs)
            choices.append(choice)
        reply = self._reply(choices)
        reply.usage = count.usage()
        return reply

    async def chunks(self, events: AsyncGenerator[ChatEvent, None]) -> AsyncGenerator[schemas.Completion, None]:
        """Text as it comes, one finishing piece per choice; at the end the usage if it was asked for."""
        at_end, always = include_usage(self.body)
        count, offsets = self._count(), self._offsets()
        opened: set[int] = set()

        def piece(choice: schemas.CompletionChoice) -> schemas.Completion:
            made = self._reply([choice])
            if at_end:
                made.usage = count.usage() if always else None
            return made

        async with aclosing(events):
            async for event in events:
                if isinstance(event, ContentDelta):
                    count.add(event)
                    is_first = event.index not in opened
                    opened.add(event.index)
                    text = (self._echo(event.index) if is_first else "") + event.text
                    says_more = self.body.return_token_ids or event.prompt_logprobs is not None
                    if not text and event.logprobs is None and not says_more:
                        continue
                    tokens = None if event.logprobs is None else list(event.logprobs)
                    choice = schemas.CompletionChoice(
                        index=event.index,
                        text=text,
                        logprobs=self._logprobs(event.index, tokens, offsets),
                        finish_reason=None,
                    )
                    if self.body.return_token_ids:
                        choice.token_ids = list(event.token_ids)
                        if is_first:
                            choice.prompt_token_ids = self.prompts[event.index // self.n]
                    if event.prompt_logprobs is not None:
                        choice.prompt_logprobs = await prompt_logprobs(self.names, event.prompt_logprobs)
                    yield piece(choice)
                elif isinstance(event, ChatFinished):
                    yield piece(
                        schemas.CompletionChoice(
                            index=event.index,
                            text="",
                            logprobs=None,
                            finish_reason=WIRE_REASONS[event.reason],  # type: ignore[arg-type]
                            stop_reason=event.stop_reason,
                        )
                    )
        if at_end:
            last = self._reply([])
            last.usage = count.usage()
            yield last

    def prompts_alone(self) -> schemas.Completion:
        """`max_tokens: 0` with echo: the prompts as they were read, nothing generated."""
        reply = self._reply(
            [
                schemas.CompletionChoice(index=index, text=self._echo(index), logprobs=None, finish_reason="length")
                for index in range(len(self.prompts) * self.n)
            ]
        )
        reply.usage = self._count().usage()
        return reply

    async def prompts_only(self) -> AsyncGenerator[schemas.Completion, None]:
        at_end, _ = include_usage(self.body)
        whole = self.prompts_alone()
        for choice in whole.choices:
            made = self._reply([choice])
            if at_end:
                made.usage = None
            yield made
        if at_end:
            last = self._reply([])
            last.usage = whole.usage
            yield last

    def _reply(self, choices: list[schemas.CompletionChoice]) -> schemas.Completion:
        return schemas.Completion(
            id=self.identity.id,
            object="text_completion",
            created=self.identity.created,
            model=self.identity.model,
            choices=choices,
            system_fingerprint=self.identity.fingerprint,
        )

    def _logprobs(
        self, index: int, tokens: list[TokenLogprobs] | None, offsets: Offsets
    ) -> schemas.CompletionLogprobs | None:
        if tokens is None:
            return None
        found = schemas.CompletionLogprobs(text_offset=[], token_logprobs=[], tokens=[], top_logprobs=[])
        for token in tokens:
            at = offsets.advance(index, token.sampled.token_id)
            name = self.names.text(token.sampled.token_id)
            best = {self.names.text(candidate.token_id): finite(candidate.logprob) for candidate in token.top}
            found.text_offset.append(at)  # type: ignore[union-attr]
            found.tokens.append(name)  # type: ignore[union-attr]
            found.token_logprobs.append(finite(token.sampled.logprob))  # type: ignore[union-attr]
            found.top_logprobs.append(best | {name: finite(token.sampled.logprob)})  # type: ignore[union-attr]
        return found
