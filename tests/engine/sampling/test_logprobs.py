"""Reported logprobs are those of log_softmax over the raw logits, whatever was done to the logits after."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naive_sampling import request

from specserve.engine.api import TokenLogprobs
from specserve.engine.batch import SampledToken
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
