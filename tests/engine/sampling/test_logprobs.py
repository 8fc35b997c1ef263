"""Reported logprobs are those of log_softmax over the raw logits, whatever was done to the logits after."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_sampling import request

from specserve.engine.api import TokenLogprob, TokenLogprobs
from specserve.engine.batch import SampledToken
from specserve.engine.sampling.logprobs import prompt_logprobs
from specserve.engine.sampling.metadata import SamplingMetadata
from specserve.engine.sampling.sampler import Sampler

VOCAB_SIZE = 1000


def report(options: list[dict[str, Any]], dtype: torch.dtype) -> tuple[list[SampledToken], torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = (torch.randn(len(options), VOCAB_SIZE, generator=generator) * 2).to(dtype)
    rows = [request(f"r{at}", seed=at, **chosen) for at, chosen in enumerate(options)]
    results = Sampler().sample(logits.clone(), SamplingMetadata.of(rows))
    assert all(isinstance(result, SampledToken) for result in results)
    return [result for result in results if isinstance(result, SampledToken)], logits.double().log_softmax(-1)


def check(logprobs: TokenLogprobs | None, token_id: int, expected: torch.Tensor, num_top: int) -> None:
    assert logprobs is not None
    assert logprobs.sampled.token_id == token_id
    assert logprobs.sampled.logprob == pytest.approx(float(expected[token_id]), abs=1e-5)
    assert logprobs.sampled.rank == int((expected > expected[token_id]).sum()) + 1
    assert len(logprobs.top) == num_top
    assert [top.rank for top in logprobs.top] == list(range(1, num_top + 1))
    best = expected.topk(num_top).values.tolist()
    assert [top.logprob for top in logprobs.top] == pytest.approx(best, abs=1e-5)
    assert [float(expected[top.token_id]) for top in logprobs.top] == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param([{"logprobs": 0}, {"logprobs": 20, "temperature": 0.0}], id="every row"),
        pytest.param([{}, {"logprobs": 5}, {"temperature": 0.0}], id="one row"),
        pytest.param([{"logprobs": 3, "temperature": 0.5, "top_k": 5}, {"logprobs": VOCAB_SIZE}], id="whole"),
        pytest.param(
            [{"logprobs": 4, "logit_bias": {3: 50.0}}, {"logprobs": 2}, {"repetition_penalty": 2.0}],
            id="edited",
        ),
        pytest.param([{"logprobs": 4, "logit_bias": {3: 50.0}}, {"logprobs": 2}], id="edited, every row"),
    ],
)
def test_logprobs_are_of_the_raw_distribution(options: list[dict[str, Any]], dtype: torch.dtype) -> None:
    results, expected = report(options, dtype)
    for chosen, result, row in zip(options, results, expected, strict=True):
        if "logprobs" not in chosen:
            assert result.logprobs is None
        else:
            check(result.logprobs, result.token_id, row, chosen["logprobs"])


def test_a_forced_token_reports_how_unlikely_it_was() -> None:
    results, expected = report([{"logprobs": 1, "allowed_token_ids": (17,)}], torch.float32)
    assert results[0].token_id == 17
    check(results[0].logprobs, 17, expected[0], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("edits", [{}, {"logit_bias": {3: 50.0}, "presence_penalty": 1.0}], ids=["raw", "edited"])
def test_named_tokens_are_reported_in_their_order_with_their_ranks(dtype: torch.dtype, edits: dict[str, Any]) -> None:
    named = (999, 0, 500, 3, 500, 17)
    options = [{"logprobs": 0, "logprob_token_ids": named, **edits}, {"logprobs": 3}, {}]
    results, expected = report(options, dtype)
    found, row = results[0].logprobs, expected[0]
    assert found is not None
    assert tuple(top.token_id for top in found.top) == named
    assert [top.logprob for top in found.top] == pytest.approx(row[list(named)].tolist(), abs=1e-5)
    assert [top.rank for top in found.top] == [int((row > row[token]).sum()) + 1 for token in named]
    assert found.sampled.token_id == results[0].token_id
    check(results[1].logprobs, results[1].token_id, expected[1], 3)


def test_equally_likely_named_tokens_share_the_better_rank() -> None:
    logits = torch.tensor([[1.0, 3.0, 1.0, 2.0, float("-inf"), 1.0]])
    chosen = request(logprobs=0, logprob_token_ids=(5, 3, 0, 4), temperature=0.0)
    (result,) = Sampler().sample(logits, SamplingMetadata.of([chosen]))
    assert isinstance(result, SampledToken)
    assert result.logprobs is not None
    assert [top.rank for top in result.logprobs.top] == [3, 2, 3, 6]
    assert result.logprobs.top[3].logprob == float("-inf")


@given(
    num_rows=st.sampled_from([1, 63, 64, 65, 130]),
    vocab_size=st.sampled_from([3, 64, 200]),
    num_top=st.integers(0, 7),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
@settings(max_examples=40, deadline=None)
def test_logprobs_of_a_prompt_are_those_of_log_softmax(
    num_rows: int, vocab_size: int, num_top: int, dtype: torch.dtype
) -> None:
    logits = (torch.randn(num_rows, vocab_size, generator=torch.Generator().manual_seed(5)) * 3).to(dtype)
    token_ids = torch.arange(num_rows) % vocab_size
    packed = prompt_logprobs(logits, token_ids, num_top)
    assert packed is not None
    expected = logits.double().log_softmax(-1)
    for token_id, found, row in zip(token_ids.tolist(), packed.unpack(), expected, strict=True):
        check(found, token_id, row, min(num_top, vocab_size))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_prompt_with_a_logit_that_is_no_number_has_no_logprobs(value: float) -> None:
    logits = torch.zeros(100, 10)
    logits[70, 3] = value
    assert prompt_logprobs(logits, torch.zeros(100, dtype=torch.long), 2) is None
    assert prompt_logprobs(logits[:70], torch.zeros(70, dtype=torch.long), 2) is not None


def test_an_impossible_prompt_token_has_the_logprob_minus_infinity() -> None:
    logits = torch.tensor([[0.0, float("-inf"), 1.0]])
    packed = prompt_logprobs(logits, torch.tensor([1]), 1)
    assert packed is not None
    assert packed.unpack()[0].sampled == TokenLogprob(1, float("-inf"), 3)


@pytest.mark.parametrize("threads", [1, 3])
def test_logprobs_of_a_prompts_row_do_not_depend_on_the_rows_beside_it(threads: int) -> None:
    """By a bit, with a vocabulary so large that torch shares the sum of a single row out among threads."""
    logits = torch.randn(5, 70_001, generator=torch.Generator().manual_seed(0)) * 5
    targets = torch.tensor([0, 70_000, 5, 6, 7])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = prompt_logprobs(logits, targets, 2)
        assert whole is not None
        alone = [prompt_logprobs(logits[row : row + 1], targets[row : row + 1], 2) for row in range(5)]
        assert b"".join(one.logprobs for one in alone if one is not None) == whole.logprobs
    finally:
        torch.set_num_threads(before)
