"""top_p over a whole vocabulary that is too flat for a list of candidates: exact, without sorting it.

A histogram of the probabilities shows in which narrow band the limit lies; only that band is sorted.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

NUM_BINS = 2048
SPAN = 16.0
"""Natural-log distance to the most likely token that the bins divide; what is beyond shares the last one."""


def keep_nucleus(probabilities: Tensor, top_p: float) -> None:
    """Set to zero all but the fewest, most likely tokens that together reach `top_p`; in place.

    probabilities [V] float32, summing to 1. Among equals at the limit the lowest ids stay.
    """
    distance = probabilities.log().sub_(probabilities.max().log()).mul_(-NUM_BINS / SPAN)
    bins = distance.clamp_(max=NUM_BINS - 1).to(torch.int64)
    mass = np.bincount(bins.cpu().numpy(), weights=probabilities.cpu().numpy(), minlength=NUM_BINS)
    cumulative = mass.cumsum()
    band = min(int(np.searchsorted(cumulative, top_p)), NUM_BINS - 1)
    members = (bins == band).nonzero()[:, 0]
    values, order = probabilities[members].sort(descending=True, stable=True)
    before = values.double().cumsum(0) - values.double() + float(cumulative[band] - mass[band])
    kept = members[order[before < top_p]]
    kept_values = probabilities[kept]
    probabilities.mul_(bins < band)
    probabilities[kept] = kept_values
