"""Penalties at the ends of what a request may ask for."""

from __future__ import annotations

import pytest
import torch

from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.sampling.logits_processors import NEVER, apply_repetition_penalty


@pytest.mark.parametrize("penalty", [5e-324, 1e-300, 1e300, 1.7e308])
def test_the_most_extreme_repetition_penalty_leaves_numbers(penalty: float) -> None:
    logits = torch.tensor([0.0, 3.0, -3.0, NEVER, 1.0])
    params = SamplingParams(max_tokens=1, repetition_penalty=penalty)
    apply_repetition_penalty(logits, Request("r", params, [0, 1, 2, 3], 4), ())
    assert torch.isfinite(logits[:3]).all()
    assert torch.isfinite(logits[:3] / 0.01).all()
    assert logits[3] == NEVER
    assert logits[4] == 1.0
