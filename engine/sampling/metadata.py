"""What the sampler needs to know of a step's requests, sorted by need: plain rows pay for nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from specserve.engine.request import Request

CANDIDATE_SIZES = (64, 256, 1024)
"""Sizes of candidate lists; a row with `top_k` gets the smallest that holds it, or else a full sort."""

TOP_P_CANDIDATES = 256
"""Size of the candidate list for top_p alone; rows whose list does not reach top_p look at everything."""


@dataclass(slots=True)
class SamplingMetadata:
    """Row numbers of the logits by what their requests ask for. Each row is in exactly one of `greedy`,
    `plain`, `top_k`, `top_p` and `descending`; `edited` and `logprobs` come on top.

    requests      one per row
    greedy        temperature 0
    plain         the whole vocabulary (possibly min_p)
    top_k         rows by the size of candidate list that holds their top_k; None: more than the largest
    top_p         top_p without top_k
    descending    rows with a grammar and top_k, top_p or min_p, by the size of list they look at first
    edited        rows whose logits a processor changes
    logprobs      rows that report logprobs
    only_highest  all rows take their largest logits, and nothing else is asked of any
    leads         by row, how many tokens behind the next one of its request it is: rows of drafts are
    """

    requests: Sequence[Request]
    eos_token_ids: tuple[int, ...] = ()
    greedy: list[int] = field(default_factory=list)
    plain: list[int] = field(default_factory=list)
    top_k: dict[int | None, list[int]] = field(default_factory=dict)
    top_p: list[int] = field(default_factory=list)
    descending: dict[int | None, list[int]] = field(default_factory=dict)
    edited: list[int] = field(default_factory=list)
    logprobs: list[int] = field(default_factory=list)
    only_highest: bool = False
    leads: int | Sequence[int] = 0

    @classmethod
    def of(cls, requests: Sequence[Request], eos_token_ids: tuple[int, ...] = ()) -> SamplingMetadata:
        if all(request.takes_highest for request in requests):
            return cls(requests, eos_token_ids, greedy=list(range(len(requests))), only_highest=True)
        metadata = cls(requests, eos_token_ids)
        for row, request in enumerate(requests):
            params = request.params
            size = next((size for size in CANDIDATE_SIZES if params.top_k <= size), None)
            if params.is_greedy:
                metadata.greedy.append(row)
            elif request.matcher is not None and (params.top_k or params.top_p < 1.0 or params.min_p > 0.0):
                metadata.descending.setdefault(size if params.top_k else TOP_P_CANDIDATES, []).append(row)
            elif params.top_k:
                metadata.top_k.setdefault(size, []).append(row)
            elif params.top_p < 1.0:
                metadata.top_p.append(row)
            else:
                metadata.plain.append(row)
            if needs_edit(request):
                metadata.edited.append(row)
            if params.logprobs is not None:
                metadata.logprobs.append(row)
        return metadata


def needs_edit(request: Request) -> bool:
    params = request.params
    return (
        bool(params.logit_bias)
        or bool(params.allowed_token_ids)
        or bool(params.bad_words_token_ids)
        or params.has_penalties
        or request.num_generated_tokens < params.min_tokens
        or (request.thought is not None and not request.thought.is_over)
    )
