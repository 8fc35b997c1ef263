"""Two-level candidates equal a full sort."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specserve.engine.sampling.candidates import GroupedLogits


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 4),
    vocab_size=st.integers(1, 2000),
    k=st.integers(1, 300),
    coarse=st.booleans(),
)
def test_top_equals_topk_of_the_whole_row(seed: int, rows: int, vocab_size: int, k: int, coarse: bool) -> None:
    logits = torch.randn(rows, vocab_size, generator=torch.Generator().manual_seed(seed))
    if coarse:
        logits = logits.round()  # many equals
    grouped = GroupedLogits(logits)
    values, ids = grouped.top(None, k)
    assert torch.equal(values, logits.topk(min(k, vocab_size)).values)
    assert torch.equal(logits.gather(1, ids), values)
    assert all(len(set(row)) == len(row) for row in ids.tolist())
    assert torch.equal(grouped.argmax(), logits.argmax(-1))
    some = torch.tensor([rows - 1])
    assert torch.equal(grouped.top(some, k)[0], values[some])


def test_refresh_sees_edited_rows() -> None:
    logits = torch.zeros(3, 500)
    grouped = GroupedLogits(logits)
    logits[1, 333] = 5.0
    grouped.refresh(torch.tensor([1]))
    assert grouped.argmax().tolist() == [0, 333, 0]
