"""Of several answers to one prompt, the best ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from specserve.handlers.chat.fold import ChoiceResult


def best_of(results: Sequence[ChoiceResult], num_candidates: int, n: int) -> list[ChoiceResult]:
    """The `n` best of each `num_candidates` in a row, best first, numbered anew prompt by prompt.

    Better is the higher mean log probability per token, as OpenAI's description of `best_of` has it; equals keep
    their order.
    """
    found: list[ChoiceResult] = []
    for first in range(0, len(results), num_candidates):
        ranked = sorted(results[first : first + num_candidates], key=lambda result: -mean_logprob(result))
        found += [replace(result, index=len(found) + place) for place, result in enumerate(ranked[:n])]
    return found


def mean_logprob(result: ChoiceResult) -> float:
    tokens = result.logprobs or []
    return sum(token.sampled.logprob for token in tokens) / len(tokens) if tokens else float("-inf")
