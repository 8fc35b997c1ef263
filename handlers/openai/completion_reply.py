"""Writes continuations, as pieces of a stream or as one reply; knows nothing of how they came to be."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from specserve.engine.api import FinishReason, TokenLogprobs
from specserve.generated import schemas
from specserve.generated.base import Serialised
from specserve.handlers.chat.best_of import best_of
from specserve.handlers.chat.events import ChatEvent, ChatFinished, ContentDelta
from specserve.handlers.chat.fold import ChoiceResult, fold
from specserve.handlers.openai.completion_logprobs import CompletionLogprobsWriter, joined
from specserve.handlers.openai.completion_prompts import CompletionPrompt
from specserve.handlers.openai.reply import (
    WIRE_REASONS,
    Identity,
    TokenNames,
    UsageCount,
    include_usage,
    prompt_logprobs,
)
from specserve.handlers.sse import TextEvents

PieceEvent = schemas.Completion | Serialised[schemas.Completion]
PromptTokens = Sequence[TokenLogprobs | None]


async def nothing_generated(num_choices: int) -> AsyncGenerator[ChatEvent, None]:
    """What the engine would say of answers of no tokens, where nothing of the prompts is asked for either."""
    for index in range(num_choices):
        yield ContentDelta(index=index, text="")
        yield ChatFinished(index=index, reason=FinishReason.LENGTH)


@dataclass(frozen=True, slots=True)
class CompletionReply:
    """Choice index = prompt index * n + place. `num_candidates` are written per prompt, of which the n best are sent.

    `num_top` is the number of alternatives per token; None for no log probabilities.
    """

    identity: Identity
    names: TokenNames
    body: schemas.CompletionRequest
    prompts: list[CompletionPrompt]
    num_candidates: int
    num_top: int | None
    _writers: dict[int, CompletionLogprobsWriter] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return self.body.n or 1

    def _count(self) -> UsageCount:
        return UsageCount(sum(len(prompt.token_ids) for prompt in self.prompts), self.num_candidates)

    def _prompt(self, index: int) -> CompletionPrompt:
        return self.prompts[index // self.n]

    def _echo(self, index: int) -> str:
        prompt = self._prompt(index)
        return prompt.echo if self.body.max_tokens != 0 else prompt.echo + prompt.rest

    def _prompt_ids(self, index: int) -> list[int] | None:
        prompt = self._prompt(index)
        return prompt.token_ids if prompt.embeds is None else None

    async def whole(self, events: AsyncGenerator[ChatEvent, None]) -> schemas.Completion:
        results = await fold(events, len(self.prompts) * self.num_candidates)
        count = self._count()
        for result in results:
            count.add(result)
        if self.num_candidates > self.n:
            results = best_of(results, self.num_candidates, self.n)
        reply = self._reply([await self._choice(result) for result in results])
        reply.usage = count.usage()
        return reply

    async def _choice(self, result: ChoiceResult) -> schemas.CompletionChoice:
        index = result.index
        choice = schemas.CompletionChoice(
            index=index,
            text=self._echo(index) + result.text,
            logprobs=await self._logprobs(index, result.logprobs, result.prompt_logprobs),
            finish_reason=WIRE_REASONS[result.reason],  # type: ignore[index, arg-type]
            stop_reason=result.stop_reason,
        )
        if self.body.return_token_ids:
            choice.prompt_token_ids, choice.token_ids = self._prompt_ids(index), result.token_ids
        await self._add_prompt_logprobs(choice, result.prompt_logprobs)
        return choice

    async def chunks(self, events: AsyncGenerator[ChatEvent, None]) -> AsyncGenerator[PieceEvent, None]:
        """Text as it comes, one finishing piece per choice; at the end the usage if it was asked for."""
        at_end, always = include_usage(self.body)
        count = self._count()
        opened: set[int] = set()

        def piece(choice: schemas.CompletionChoice, *, counts: bool = always) -> schemas.Completion:
            made = self._reply([choice])
            if at_end:
                made.usage = count.usage() if counts else None
            return made

        texts: dict[int, TextEvents[schemas.Completion]] = {}

        def text_event(index: int, text: str) -> PieceEvent:
            events = texts.get(index)
            if events is None:
                events = texts[index] = TextEvents(lambda text: piece(self._text(index, text), counts=False))
            return events(text, count.json() if always else None)

        async with aclosing(events):
            async for event in events:
                if isinstance(event, ContentDelta):
                    count.add(event)
                    text = event.text if event.index in opened else self._echo(event.index) + event.text
                    if self.body.return_token_ids or event.logprobs is not None or event.prompt_logprobs is not None:
                        yield piece(await self._piece(event, text, is_first=event.index not in opened))
                    elif text:
                        yield text_event(event.index, text)
                    opened.add(event.index)
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

    def _text(self, index: int, text: str) -> schemas.CompletionChoice:
        return schemas.CompletionChoice(index=index, text=text, logprobs=None, finish_reason=None)

    async def _piece(self, event: ContentDelta, text: str, *, is_first: bool) -> schemas.CompletionChoice:
        """Text with what was asked for of its tokens."""
        index = event.index
        choice = self._text(index, text)
        choice.logprobs = await self._logprobs(index, event.logprobs, event.prompt_logprobs)
        await self._add_prompt_logprobs(choice, event.prompt_logprobs)
        if self.body.return_token_ids:
            choice.token_ids = list(event.token_ids)
            if is_first:
                choice.prompt_token_ids = self._prompt_ids(index)
        return choice

    async def _add_prompt_logprobs(self, choice: schemas.CompletionChoice, tokens: PromptTokens | None) -> None:
        """Those the client asked for, which may be fewer than echo needs."""
        asked = self.body.prompt_logprobs
        if tokens is None or asked is None:
            return
        if asked >= 0:
            tokens = [token and TokenLogprobs(token.sampled, token.top[:asked]) for token in tokens]
        choice.prompt_logprobs = await prompt_logprobs(self.names, tokens)

    def _reply(self, choices: list[schemas.CompletionChoice]) -> schemas.Completion:
        return schemas.Completion(
            id=self.identity.id,
            object="text_completion",
            created=self.identity.created,
            model=self.identity.model,
            choices=choices,
            system_fingerprint=self.identity.fingerprint,
        )

    async def _logprobs(
        self, index: int, tokens: Sequence[TokenLogprobs] | None, of_prompt: PromptTokens | None
    ) -> schemas.CompletionLogprobs | None:
        """Of the echoed prompt, where these are its log probabilities, and of these tokens of the answer."""
        is_echoed = self.body.echo and of_prompt is not None
        if self.num_top is None or (tokens is None and not is_echoed):
            return None
        if index not in self._writers:
            prompt = self._prompt(index)
            self._writers[index] = CompletionLogprobsWriter(
                self.names,
                self.num_top,
                self.body.skip_special_tokens,
                after=prompt.token_ids if prompt.embeds is None else (),
                echoed=prompt if self.body.echo else None,
            )
        writer = self._writers[index]
        found = writer.of_answer(tokens or ())
        return joined(await writer.of_prompt(of_prompt), found) if is_echoed and of_prompt is not None else found
