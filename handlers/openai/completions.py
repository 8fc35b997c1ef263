"""POST /v1/completions: prompts as text or token ids, one or many, each with `n` continuations."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from secrets import token_hex

from specserve.engine.api import GenerationRequest
from specserve.engine.grammar_spec import GrammarSpec
from specserve.generated import schemas
from specserve.generated.errors import InvalidParameterCombination, UnsupportedParameter
from specserve.generated.operations import CompletionsApi
from specserve.handlers import fields
from specserve.handlers.answer_length import AskedLength
from specserve.handlers.chat.beam_search import BeamSettings, stream_beams
from specserve.handlers.chat.events import ChatEvent
from specserve.handlers.chat.larger_pieces import larger_pieces
from specserve.handlers.chat.pipeline import siblings, stream_chat
from specserve.handlers.context import RequestContext
from specserve.handlers.grammars import GrammarChecker
from specserve.handlers.limits import Limits
from specserve.handlers.model_directory import ModelDirectory, ServedModel
from specserve.handlers.openai.beams import beam_settings
from specserve.handlers.openai.completion_prompts import CompletionPrompt, PromptReader
from specserve.handlers.openai.completion_reply import CompletionReply, PieceEvent, nothing_generated
from specserve.handlers.openai.constraints import checked_grammar
from specserve.handlers.openai.reply import Identity, TokenNames, check_common
from specserve.handlers.openai.reply_defaults import ReplyDefaults
from specserve.handlers.sampling import AskedSampling, num_alternatives, room_for_answer, sampling_params
from specserve.handlers.text_work import text_work

DEFAULT_MAX_TOKENS = 16


class Completions(CompletionsApi[RequestContext]):
    def __init__(
        self,
        directory: ModelDirectory,
        limits: Limits,
        grammars: GrammarChecker,
        defaults: ReplyDefaults | None = None,
    ) -> None:
        self._directory, self._limits, self._grammars = directory, limits, grammars
        self._defaults = defaults or ReplyDefaults()

    async def create_completion(
        self, body: schemas.CompletionRequest, context: RequestContext
    ) -> schemas.Completion | AsyncIterator[PieceEvent]:
        asked = await self.prepare(body, context)
        for request in asked.requests:
            context.note(request)
        engine, requests = asked.served.engine, asked.requests
        names = TokenNames(engine.tokenizer, bool(body.return_tokens_as_token_ids))
        reply = CompletionReply(asked.identity, names, body, asked.prompts, asked.num_candidates, asked.num_top)
        events: AsyncGenerator[ChatEvent, None]
        if body.max_tokens == 0 and all(request.params.prompt_logprobs is None for request in requests):
            events = nothing_generated(len(asked.prompts) * asked.num_candidates)
        elif asked.beams is not None:
            events = stream_beams(engine, requests, asked.beams)
        else:
            numbered = [sibling for request in requests for sibling in siblings(request, asked.num_candidates)]
            events = stream_chat(engine, [replace(one, index=at) for at, one in enumerate(numbered)])
        if not body.stream:
            return await reply.whole(events)
        interval = body.stream_interval or 1
        return reply.chunks(larger_pieces(events, interval) if interval > 1 else events)

    async def prepare(self, body: schemas.CompletionRequest, context: RequestContext) -> PreparedCompletion:
        """Raises what the contract lists as refusals."""
        fields.COMPLETION.check(body)
        self._defaults.fill(body)
        num_candidates = check_candidates(body)
        check_values(body)
        served = self._directory.generator(body.model)
        engine = served.engine
        beams = beam_settings(body, engine.model) if body.use_beam_search else None
        limit = self._limits.max_logprobs
        num_top = num_alternatives(body.logprobs, limit, engine.model, param="logprobs")
        reader = PromptReader.of(body, engine.tokenizer, engine.model)
        prompts = await text_work(context, reader.read)
        check_common(body, len(prompts) * num_candidates, self._limits.max_choices)
        reader.truncation.report(context.response_headers)
        grammar = await checked_grammar(body, self._grammars.of(engine), context)
        engine_id = token_hex(16)  # unique, whatever the client calls the request
        identity = Identity.of("cmpl", context, served)
        asked = Asked(
            num_top=num_top,
            is_ranked=num_candidates > (body.n or 1),
            end_ids=reader.end_ids,
            limits=self._limits,
            grammar=grammar,
        )
        return PreparedCompletion(
            served=served,
            identity=identity,
            prompts=prompts,
            requests=[
                engine_request(body, served, prompt, f"{engine_id}-{at}", asked) for at, prompt in enumerate(prompts)
            ],
            num_candidates=num_candidates,
            num_top=num_top,
            beams=beams,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedCompletion:
    """A request that has passed every check. There is one request of the engine for each prompt."""

    served: ServedModel
    identity: Identity
    prompts: list[CompletionPrompt]
    requests: list[GenerationRequest]
    num_candidates: int
    num_top: int | None
    beams: BeamSettings | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What all prompts of a request have in common besides its body.

    Answers that are ranked need their log probabilities, whether or not the client wants to see them.
    """

    num_top: int | None
    is_ranked: bool
    end_ids: tuple[int, ...]
    limits: Limits
    grammar: GrammarSpec | None


def engine_request(
    body: schemas.CompletionRequest, served: ServedModel, prompt: CompletionPrompt, request_id: str, asked: Asked
) -> GenerationRequest:
    """One prompt's request. Raises what `sampling_params` raises, and PromptTooLongError."""
    model, num_top = served.engine.model, asked.num_top
    params = sampling_params(
        AskedSampling.of(body),
        served.defaults,
        model,
        room=room_for_answer(len(prompt.token_ids), model, param="prompt", is_answered=body.max_tokens != 0),
        length=AskedLength(body.max_tokens, default=DEFAULT_MAX_TOKENS),
        logprobs=0 if num_top is None and asked.is_ranked else num_top,
        tokenizer=served.engine.tokenizer,
        max_logprobs=asked.limits.max_logprobs,
        policy=asked.limits.max_tokens_policy,
        grammar=asked.grammar,
    )
    if body.echo and num_top is not None:
        params = replace(params, prompt_logprobs=max(num_top, params.prompt_logprobs or 0))
    if asked.end_ids:
        params = replace(params, stop_token_ids=tuple(dict.fromkeys((*params.stop_token_ids, *asked.end_ids))))
    return GenerationRequest(
        request_id=request_id,
        prompt_token_ids=prompt.token_ids,
        params=params,
        cache_salt=body.cache_salt or "",
        priority=body.priority,
        prompt_embeds=prompt.embeds,
        continues_prompt=prompt.embeds is None,
    )


def check_candidates(body: schemas.CompletionRequest) -> int:
    """How many continuations of each prompt are written, of which the n best are sent.

    Raises InvalidParameterCombination. 0 and null mean n, and so does leaving best_of out.
    """
    n = body.n or 1
    asked = body.best_of if "best_of" in body.model_fields_set else None
    if not asked:
        return n
    if asked < n:
        raise InvalidParameterCombination(
            f"best_of is {asked}, n is {n}; write at least as many candidates as you want answers", param="best_of"
        )
    if asked > n and body.stream:
        raise InvalidParameterCombination(
            f"best_of is {asked}, n is {n}: the best is known at the end only, so it cannot be streamed; "
            "send best_of equal to n, or stream: false",
            param="best_of",
        )
    if asked > n and body.use_beam_search:
        raise InvalidParameterCombination(
            "best_of does not go with use_beam_search, which has n beams and sends them all", param="best_of"
        )
    return asked


def check_values(body: schemas.CompletionRequest) -> None:
    """Raises InvalidParameterCombination or UnsupportedParameter."""
    if body.thinking_token_budget not in (None, -1):
        raise UnsupportedParameter(
            "thinking_token_budget counts the reasoning of chat messages; the text of a completion is not taken apart, "
            "so use /v1/chat/completions, or leave it out",
            param="thinking_token_budget",
        )
    if body.max_tokens == 0 and not body.echo and body.prompt_logprobs is None:
        raise InvalidParameterCombination(
            "max_tokens is 0, which makes sense with echo or prompt_logprobs only; ask for at least 1",
            param="max_tokens",
        )
    if body.use_beam_search and body.echo and body.logprobs is not None:
        raise InvalidParameterCombination(
            "echo together with logprobs does not go with use_beam_search; leave one of the three out", param="echo"
        )
    if body.use_beam_search and body.max_tokens == 0:
        raise InvalidParameterCombination(
            "max_tokens is 0, which leaves use_beam_search nothing to search; ask for at least 1", param="max_tokens"
        )
