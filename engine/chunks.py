"""How much of a request is computed at once. Plain Python."""

from __future__ import annotations

from specserve.engine.batch import ScheduledRequest
from specserve.engine.request import Request


def next_chunk(request: Request, num_tokens: int, num_rows: int) -> ScheduledRequest | None:
    """The next of its known tokens: up to `num_tokens`, and as many as report up to `num_rows` logprobs of its prompt.

    None when it can report none and has nothing else to compute.
    """
    start = request.num_computed_tokens
    num_new_tokens = min(request.num_tokens - start, num_tokens)
    reported = range(0)
    if request.reports_prompt:
        num_new_tokens = min(num_new_tokens, max(request.num_prompt_logprobs - start, 0) + num_rows)
        if num_new_tokens == 0:
            return None
        last = min(start + num_new_tokens, request.num_prompt_tokens - 1)
        reported = range(max(start, request.num_prompt_logprobs) + 1, last + 1)
    samples = start + num_new_tokens == request.num_tokens < request.max_num_tokens
    return ScheduledRequest(request, start, num_new_tokens, samples, reported)
