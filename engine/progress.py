"""What a request gains in a step, and whether it ends by it. Changes the request, knows no queue."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from specserve.engine.api import FinishReason
from specserve.engine.batch import PackedLogprobs, RequestProgress, SampledToken
from specserve.engine.request import Request


def gain_nothing(request: Request) -> RequestProgress:
    return RequestProgress(
        request.request_id,
        [],
        None if request.params.logprobs is None else [],
        None,
        None,
        request.num_cached_tokens,
    )


def gain_token(request: Request, sampled: SampledToken, eos_token_ids: Collection[int]) -> RequestProgress:
    """Append the token; the progress has a finish reason if it is the last one."""
    request.token_ids.append(sampled.token_id)
    if request.thought is not None and not request.thought.is_over:
        request.thought.take(request.token_ids, request.num_generated_tokens)
    reason = _finish_reason(request, sampled.token_id, eos_token_ids)
    gained = RequestProgress(
        request.request_id,
        [sampled.token_id],
        None if sampled.logprobs is None else [sampled.logprobs],
        reason,
        request.stop_reason,
        request.num_cached_tokens,
    )
    if sampled.ends:
        gained.finish_reason = FinishReason.STOP
        gained.shows_last = request.stop_reason is None and sampled.token_id not in eos_token_ids
    return gained


def gain_tokens(request: Request, sampled: Sequence[SampledToken], eos_token_ids: Collection[int]) -> RequestProgress:
    """The same for several, at least one, up to the one that ends the request."""
    gained = gain_token(request, sampled[0], eos_token_ids)
    for following in sampled[1:]:
        if gained.finish_reason is not None:
            break
        last = gain_token(request, following, eos_token_ids)
        last.token_ids = gained.token_ids + last.token_ids
        if last.logprobs is not None and gained.logprobs is not None:
            last.logprobs = gained.logprobs + last.logprobs
        gained = last
    return gained


def gain_prompt_logprobs(
    request: Request, reported: range, packed: PackedLogprobs, siblings: Sequence[Request]
) -> RequestProgress:
    """Those of the prompt's positions `reported`. `siblings` that want them need not compute what they can share."""
    takers = [sibling for sibling in siblings if sibling.params.prompt_logprobs is not None]
    for taker in (request, *takers):
        taker.num_prompt_logprobs = reported[-1]
    gained = gain_nothing(request)
    gained.prompt_logprobs = replace(packed, siblings=tuple(taker.request_id for taker in takers))
    return gained


def _finish_reason(request: Request, token_id: int, eos_token_ids: Collection[int]) -> FinishReason | None:
    params = request.params
    if request.num_generated_tokens >= params.min_tokens:
        if token_id in eos_token_ids and not params.ignore_eos:
            return FinishReason.STOP
        if token_id in params.stop_token_ids:
            request.stop_reason = token_id
            return FinishReason.STOP
    return FinishReason.LENGTH if request.num_tokens >= request.max_num_tokens else None
