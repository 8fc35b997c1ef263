"""Draws from a list of candidates, the most likely first: temperature, top_k, top_p, min_p."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specserve.engine.params import SamplingParams


def kept_probabilities(values: Tensor, params: Sequence[SamplingParams], normaliser: Tensor | None = None) -> Tensor:
    """Probabilities of candidates after temperature, top_k, top_p and min_p: zero for what does not stay.

    values      [r, C] float32   logits, descending
    normaliser  [r, 1]           logsumexp of logits / temperature over the whole vocabulary, for rows whose
                                 candidates are not all that top_k leaves
    Returns [r, C] float64, not renormalised.
    """
    device = values.device
    temperatures = torch.tensor([p.temperature for p in params], dtype=torch.float64, device=device)
    scaled = values.double() / temperatures[:, None]
    places = torch.arange(values.shape[1], device=device)
    top_k = column([p.top_k or values.shape[1] for p in params], values)
    scaled = scaled.masked_fill(places >= top_k, float("-inf"))
    total = scaled.logsumexp(-1, keepdim=True) if normaliser is None else normaliser.double()
    probabilities = (scaled - total).exp()
    before = probabilities.cumsum(-1) - probabilities
    top_p = torch.tensor([p.top_p for p in params], dtype=torch.float64, device=device)[:, None]
    min_p = torch.tensor([p.min_p for p in params], dtype=torch.float64, device=device)[:, None]
    keep = ((before < top_p) | (top_p >= 1.0)) & (probabilities >= min_p * probabilities[:, :1])
    return probabilities * keep


def draw_candidates(
    values: Tensor,
    ids: Tensor,
    params: Sequence[SamplingParams],
    draws: NDArray[np.float64],
    normaliser: Tensor | None = None,
) -> Tensor:
    """[r] token ids, one per row of candidates; arguments as in `kept_probabilities`, draws [r] in [0, 1)."""
    weights = kept_probabilities(values, params, normaliser)
    cumulative = weights.cumsum(-1)
    target = torch.from_numpy(draws).to(values.device)[:, None] * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, target, right=True)
    last = (weights > 0).sum(-1, keepdim=True) - 1  # the kept ones come first
    return ids.gather(1, torch.minimum(place, last))[:, 0]


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """[r, 1] float32 beside `like`."""
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]
