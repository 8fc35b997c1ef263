"""Beam search over an engine that only samples: one request per beam and step, each for one token and its candidates.

The beams share the KV of what they have in common through the prefix cache. The bookkeeping is that of transformers'
`generate(num_beams=…)`, with which the tests compare it:

- Of all continuations of all beams the likeliest `(1 + number of end tokens) * width` are looked at, so that `width`
  remain that go on, whatever ended.
- An ended one counts only if it is among the first `width` of them. Its score is the sum of its log probabilities
  divided by `length ** length_penalty`; the length includes the end token.
- The search ends at `max_tokens`; when `width` have ended and `early_stopping` is on; or, without it, when the best
  running beam at its present length scores no better than the worst of the `width` that ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from specserve.engine.api import Engine, FinishReason, GenerationRequest, TokenLogprob, TokenLogprobs
from specserve.engine.detokenizer import Detokenizer
from specserve.engine.params import SamplingParams
from specserve.handlers.chat.events import ChatEvent, ChatFinished, ContentDelta
from specserve.handlers.chat.fold import fold
from specserve.handlers.chat.pipeline import stream_chat


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamSettings:
    width: int
    length_penalty: float = 1.0
    early_stopping: bool = False


@dataclass(frozen=True, slots=True)
class Beam:
    """A possible answer. `sum_logprob` is the log probability of all its tokens."""

    tokens: tuple[TokenLogprobs, ...] = ()
    sum_logprob: float = 0.0
    has_ended: bool = False

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(token.sampled.token_id for token in self.tokens)

    def score(self, length_penalty: float) -> float:
        return float(self.sum_logprob / len(self.tokens) ** length_penalty)

    def extended(self, chosen: TokenLogprob, candidates: tuple[TokenLogprob, ...], end_ids: frozenset[int]) -> Beam:
        return Beam(
            (*self.tokens, TokenLogprobs(chosen, candidates)),
            self.sum_logprob + chosen.logprob,
            chosen.token_id in end_ids,
        )


class BeamSearch:
    """One prompt. `request` says what a sampled answer would be; of its parameters those count that end an answer."""

    def __init__(self, engine: Engine, request: GenerationRequest, settings: BeamSettings) -> None:
        self._engine, self._request, self._settings = engine, request, settings
        params = request.params
        model_ends = () if params.ignore_eos else engine.model.eos_token_ids
        self._end_ids = frozenset((*model_ends, *params.stop_token_ids))
        self._num_kept = (1 + max(1, len(self._end_ids))) * settings.width
        self._running = [Beam()]
        self._finished: list[Beam] = []
        self.num_cached_tokens = 0

    async def run(self) -> list[Beam]:
        """The `width` best beams, best first. Cancelling it ends the engine's requests."""
        max_tokens = self._request.params.max_tokens
        for length in range(1, max_tokens + 1):
            candidates = await self._step(length)
            self._take(candidates, is_last=length == max_tokens)
            if self._is_over():
                break
        return self._finished

    async def _step(self, length: int) -> list[Beam]:
        """The likeliest continuations by one token, best first."""
        num_top = min(self._num_kept + len(self._end_ids), self._engine.model.vocab_size)
        params = SamplingParams(max_tokens=1, temperature=0.0, logprobs=num_top)
        requests = [
            replace(
                self._request,
                request_id=f"{self._request.request_id}-{length}-{number}",
                prompt_token_ids=[*self._request.prompt_token_ids, *beam.token_ids],
                params=params,
                continues_prompt=False,
            )
            for number, beam in enumerate(self._running)
        ]
        results = await fold(stream_chat(self._engine, requests), len(requests))
        if length == 1:
            self.num_cached_tokens = results[0].num_cached_tokens
        found = [
            (beam, candidate, token.top)
            for beam, result in zip(self._running, results, strict=True)
            for token in result.logprobs or ()
            for candidate in token.top
            if length >= self._request.params.min_tokens or candidate.token_id not in self._end_ids
        ]
        found.sort(key=lambda item: -(item[0].sum_logprob + item[1].logprob))
        return [beam.extended(chosen, top, self._end_ids) for beam, chosen, top in found[: self._num_kept]]

    def _take(self, candidates: list[Beam], *, is_last: bool) -> None:
        width, penalty = self._settings.width, self._settings.length_penalty
        ended = [beam for beam in candidates[:width] if beam.has_ended or is_last]
        self._finished = sorted([*self._finished, *ended], key=lambda beam: -beam.score(penalty))[:width]
        self._running = [] if is_last else [beam for beam in candidates if not beam.has_ended][:width]

    def _is_over(self) -> bool:
        settings = self._settings
        if not self._running:
            return True
        if len(self._finished) < settings.width:
            return False
        best, worst = self._running[0], self._finished[-1]
        return settings.early_stopping or best.score(settings.length_penalty) <= worst.score(settings.length_penalty)


async def stream_beams(
    engine: Engine, requests: Sequence[GenerationRequest], settings: BeamSettings
) -> AsyncGenerator[ChatEvent, None]:
    """The answers to all prompts, once they are known; `width` choices each, numbered prompt by prompt."""
    searches = [BeamSearch(engine, request, settings) for request in requests]
    tasks = [asyncio.create_task(search.run()) for search in searches]
    try:
        found = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for number, (request, search, beams) in enumerate(zip(requests, searches, found, strict=True)):
        for place, beam in enumerate(beams):
            for event in beam_events(engine, request, beam, number * settings.width + place, search.num_cached_tokens):
                yield event


def beam_events(
    engine: Engine, request: GenerationRequest, beam: Beam, index: int, num_cached_tokens: int
) -> tuple[ContentDelta, ChatFinished]:
    """What an engine would have said of a sampled answer with these tokens."""
    params = request.params
    logprobs = tuple(TokenLogprobs(token.sampled, token.top[: params.logprobs or 0]) for token in beam.tokens)
    last = beam.token_ids[-1]
    is_hidden = beam.has_ended and not params.include_stop_str_in_output
    text = Detokenizer(
        engine.tokenizer,
        skip_special_tokens=params.skip_special_tokens,
        after=request.prompt_token_ids if request.continues_prompt else (),
    )
    shown = beam.token_ids[:-1] if is_hidden else beam.token_ids
    content = ContentDelta(
        index=index,
        text="".join(map(text.append, shown)) + text.flush(),
        token_ids=beam.token_ids,
        logprobs=None if params.logprobs is None else logprobs,
        num_prompt_tokens=len(request.prompt_token_ids),
        num_cached_tokens=num_cached_tokens,
    )
    return content, ChatFinished(
        index=index,
        reason=FinishReason.STOP if beam.has_ended else FinishReason.LENGTH,
        stop_reason=last if beam.has_ended and last in params.stop_token_ids else None,
    )
