"""The nucleus found by a histogram is that of a full sort."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specserve.engine.sampling.nucleus import keep_nucleus


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    vocab_size=st.integers(1, 3000),
    scale=st.sampled_from([0.0, 0.01, 1.0, 5.0, 30.0]),
    top_p=st.floats(0.001, 0.99999),
)
def test_it_keeps_what_a_sort_keeps(seed: int, vocab_size: int, scale: float, top_p: float) -> None:
    logits = torch.randn(vocab_size, generator=torch.Generator().manual_seed(seed)) * scale
    probabilities = logits.softmax(-1)
    kept = probabilities.clone()
    keep_nucleus(kept, top_p)
    assert torch.equal(kept[kept > 0], probabilities[kept > 0])
    sorted_values = probabilities.double().sort(descending=True, stable=True).values
    before = sorted_values.cumsum(0) - sorted_values
    # Rounding of sums may move the limit by the tokens within a millionth of top_p.
    fewest, most = int((before < top_p - 1e-6).sum()), int((before < top_p + 1e-6).sum())
    assert fewest <= max(int((kept > 0).sum()), 1) <= max(most, 1)
    if (kept == 0).any():
        assert kept[kept > 0].min() >= probabilities[kept == 0].max()


@pytest.mark.parametrize("top_p", [0.3, 0.5])
def test_among_equals_the_lowest_ids_stay(top_p: float) -> None:
    probabilities = torch.full((10,), 0.1)
    keep_nucleus(probabilities, top_p - 0.01)
    assert torch.nonzero(probabilities).flatten().tolist() == list(range(round(top_p * 10)))
