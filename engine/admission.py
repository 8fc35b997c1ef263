"""Which requests can ever run, and when a waiting one may start: plain functions over the state of the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from specserve.engine.errors import InvalidParameterError, PromptTooLongError, RequestError
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.request import Request

Order = Callable[[Request], tuple[int, int]]
ORDERS: dict[str, Order] = {
    "fcfs": lambda request: (0, request.arrival),
    "priority": lambda request: (request.priority, request.arrival),
}
"""By scheduling policy: the smaller comes first."""


def refusal(request: Request, cache: KVCacheManager, max_model_len: int) -> RequestError | None:
    """Why `request` can never run, if so."""
    num_tokens = request.num_prompt_tokens
    if num_tokens < 1:
        return InvalidParameterError("prompt has no tokens, at least 1 is needed", param="prompt")
    is_answered = request.params.max_tokens > 0
    if num_tokens + is_answered > max_model_len:
        return PromptTooLongError(num_tokens, max_model_len, param="prompt", is_answered=is_answered)
    capacity = cache.capacity_tokens
    if num_tokens + is_answered > capacity:
        needed = " and one is needed for the answer" if is_answered else ""
        return InvalidParameterError(
            f"prompt has {num_tokens} tokens, but the whole KV cache holds {capacity} "
            f"({cache.num_usable_blocks} blocks of {cache.block_size}){needed}; "
            "shorten it or give the server more KV cache memory",
            param="prompt",
        )
    return None


def shares_prompt(first: Request, request: Request, cache: KVCacheManager) -> bool:
    """Whether `request` had better wait until `first` has computed the prompt of both."""
    return (
        cache.enable_prefix_caching
        and num_shareable_tokens(first, cache) > 0
        and request.cache_salt == first.cache_salt
        and request.adapter is first.adapter
        and request.token_ids == first.token_ids
        and request.prompt_embeds is None
        and request.params.prompt_logprobs in (None, first.params.prompt_logprobs)
    )


def num_shareable_tokens(request: Request, cache: KVCacheManager) -> int:
    """Tokens of the prompt that a sibling can find: full blocks, but never the last token."""
    return (request.num_prompt_tokens - 1) // cache.block_size * cache.block_size


def admit(request: Request, running: Sequence[Request], cache: KVCacheManager) -> bool:
    """Give a waiting request blocks for all its known tokens, unless that would soon cost a preemption.

    Free blocks are left for the growth of everyone then running: at first one each, twice as many after
    every preemption of this request, never more than each can still need. So a request is preempted only
    a few times, however tight the pool. A request that would run alone needs no such reserve.
    """
    computed = cache.get_computed_blocks(request)
    num_new_tokens = request.num_tokens - len(computed) * cache.block_size
    share = _share(request, len(running))
    if cache.allocate_slots(request, num_new_tokens, computed, share * (len(running) + 1)):
        return True
    growth = [cache.num_blocks_for(r.max_num_tokens) - len(r.block_table) for r in running]
    growth.append(cache.num_blocks_for(request.max_num_tokens) - cache.num_blocks_for(request.num_tokens))
    return cache.allocate_slots(request, num_new_tokens, computed, sum(min(share, blocks) for blocks in growth))


def fits_without(request: Request, lower: Sequence[Request], num_others: int, cache: KVCacheManager) -> bool:
    """Whether `admit` is sure to succeed once all of `lower` gave way and only `num_others` others run."""
    reserve = _share(request, num_others) * (num_others + 1)
    num_free = cache.num_free_blocks + cache.num_freed_by(lower)
    return cache.num_blocks_for(request.num_tokens) + reserve <= num_free


def _share(request: Request, num_others: int) -> int:
    return 1 << min(request.num_preemptions, 30) if num_others else 0
