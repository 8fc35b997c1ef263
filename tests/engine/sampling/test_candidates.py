"""Two-level candidates equal a full sort."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specserve.engine.sampling.candidates import GroupedLogits, highest


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 4), vocab_size=st.integers(1, 2000), coarse=st.booleans())
def test_highest_is_the_lowest_id_of_the_maximum(
    dtype: torch.dtype, seed: int, rows: int, vocab_size: int, coarse: bool
) -> None:
    logits = torch.randn(rows, vocab_size, generator=torch.Generator().manual_seed(seed)).to(dtype)
    if coarse:
        logits = logits.round()  # many equals, and zeros of both signs
    values, ids = highest(logits)
    assert values == logits.amax(-1).tolist()
    assert ids == [int((row == row.max()).nonzero()[0]) for row in logits]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_highest_tells_rows_that_are_not_finite(dtype: torch.dtype) -> None:
    logits = torch.zeros(4, 1000, dtype=dtype)
    logits[0, 700] = float("nan")
    logits[1, 3] = float("inf")
    logits[2] = float("-inf")
    values, _ = highest(logits)
    assert [torch.tensor(value).isfinite().item() for value in values] == [False, False, False, True]
