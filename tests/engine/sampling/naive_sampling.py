"""Sampling written as its definition, row by row over the sorted vocabulary; and requests for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from specserve.engine.params import SamplingParams
from specserve.engine.request import Request


def request(
    name: str = "r",
    *,
    prompt: tuple[int, ...] = (1, 2, 3),
    answer: tuple[int, ...] = (),
    index: int = 0,
    **params: Any,
) -> Request:
    chosen = SamplingParams(**{"max_tokens": 64, **params})
    return Request(name, chosen, [*prompt, *answer], len(prompt), index=index)


def transformers_distribution(logits: Tensor, params: SamplingParams, history: list[int]) -> Tensor:
    """Probabilities [V] as transformers' own processors leave them; float64 inside."""
    steps = LogitsProcessorList()
    if params.repetition_penalty != 1.0:
        steps.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    steps.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        steps.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1.0:
        steps.append(TopPLogitsWarper(params.top_p))
    if params.min_p > 0.0:
        steps.append(MinPLogitsWarper(params.min_p))
    return steps(torch.tensor([history]), logits.double()[None])[0].softmax(-1)


def naive_distribution(logits: Tensor, params: SamplingParams) -> Tensor:
    """Probabilities [V] float64 by sorting everything."""
    scaled = logits.double() / params.temperature
    order = scaled.argsort(descending=True, stable=True)
    kept = order[: params.top_k or len(order)]
    probabilities = scaled[kept].softmax(-1)
    if params.top_p < 1.0:
        enough = int((probabilities.cumsum(-1) < params.top_p).sum()) + 1
        kept, probabilities = kept[:enough], probabilities[:enough]
    likely = probabilities >= params.min_p * probabilities[0]
    kept, probabilities = kept[likely], probabilities[likely]
    out = torch.zeros_like(scaled)
    out[kept] = probabilities / probabilities.sum()
    return out
