"""A draw with top_k, top_p or min_p from what a grammar allows, asking it about as few tokens as possible.

The tokens that stay form a line, the most likely first, and the draw is a place on it: `draw × length`. How long the
line is depends on what the grammar says of every token. But after a few of them it is known within bounds, from what
is still unknown; and often both bounds lead to the same token.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from specserve.engine.params import SamplingParams

TOLERANCE = 1e-5
"""Of the total weight of a row, which is summed in float32."""
MARGIN = 1e-9
"""Places on the line that are nearer than this to the end of a token are not decided here."""


def draw_descending(
    logits: Sequence[float],
    token_ids: Sequence[int],
    accepts: Callable[[int], bool],
    params: SamplingParams,
    draw: float,
    total: float,
) -> int | None:
    """The token that `draw_candidates` would choose from all that is accepted; None if that stays open.

    logits     the largest of the row, descending; its first ones, or all
    token_ids  theirs
    total      sum of exp((logit - largest) / temperature) over the whole row, inf if it is not known
    """
    weights = [math.exp((logit - logits[0]) / params.temperature) for logit in logits]
    sums = list(accumulate(weights, initial=0.0))
    total *= 1 + TOLERANCE
    slots: float = params.top_k or math.inf
    chosen: list[int] = []
    ends: list[float] = []  # where each one's part of the line ends
    num_likely = len(weights)  # of the list; what is below min_p does not stay
    for at, (weight, token_id) in enumerate(zip(weights, token_ids, strict=True)):
        if at >= num_likely or len(chosen) == slots:
            return None
        if accepts(token_id):
            chosen.append(token_id)
            ends.append((ends[-1] if ends else 0.0) + weight)
            if len(ends) == 1 and params.min_p > 0:
                num_likely = bisect_right(weights, -params.min_p * weight, key=lambda value: -value)
        if not chosen:
            continue
        free = slots - len(ends)
        last = int(min(len(weights), at + 1 + free))
        unknown = sums[last] - sums[at + 1]
        if last == len(weights):
            at_most = (free - (last - at - 1)) * weights[-1] if params.top_k else math.inf
            unknown += min(at_most, max(0.0, total - sums[-1]))
        likely = unknown if num_likely == len(weights) else sums[min(last, num_likely)] - sums[at + 1]
        place = _decided(ends, unknown, likely, params.top_p, draw)
        if place is not None:
            return chosen[place]
    return None


def _decided(ends: list[float], unknown: float, likely: float, top_p: float, draw: float) -> int | None:
    """Which part of the line the draw falls into, if that is sure.

    unknown  at most so much of the weights that top_k leaves is still to come; `likely` of it survives min_p
    """
    known = ends[-1]
    shortest, longest = known, known + likely
    if top_p < 1.0:
        shortest = ends[min(bisect_left(ends, top_p * known * (1 - MARGIN)), len(ends) - 1)]
        at = bisect_left(ends, top_p * (known + unknown) * (1 + MARGIN))
        longest = min(longest, ends[at]) if at < len(ends) else longest
    first = bisect_right(ends, draw * shortest * (1 - MARGIN))
    last = bisect_right(ends, draw * longest * (1 + MARGIN))
    return last if first == last < len(ends) else None
