"""The sampler keeps the right tokens with the right probabilities, and draws each row by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_sampling import naive_distribution, request, transformers_distribution
from torch import Tensor

from specserve.engine.batch import SampledToken
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.sampling import sampler as sampler_module
from specserve.engine.sampling.metadata import SamplingMetadata
from specserve.engine.sampling.sampler import NOT_FINITE, NOTHING_ALLOWED, Sampler

NUM_DRAWS = 4000


def sample(logits: Tensor, *requests: Request, eos: tuple[int, ...] = (), seed: int = 0) -> list[SampledToken | str]:
    return Sampler(seed).sample(logits.clone(), SamplingMetadata.of(requests, eos))


def token(result: SampledToken | str) -> int:
    assert isinstance(result, SampledToken), result
    return result.token_id


def frequencies(monkeypatch: pytest.MonkeyPatch, logits: Tensor, params: SamplingParams) -> Tensor:
    """How often each token is drawn when the uniform numbers run evenly through [0, 1)."""
    grid = (np.arange(NUM_DRAWS) + 0.5) / NUM_DRAWS
    monkeypatch.setattr(sampler_module, "uniforms", lambda requests, seed, lead: grid[: len(requests)])
    rows = [Request(f"r{at}", params, [1], 1) for at in range(NUM_DRAWS)]
    drawn = [token(result) for result in sample(logits.expand(NUM_DRAWS, -1), *rows)]
    return torch.bincount(torch.tensor(drawn), minlength=len(logits)).double() / NUM_DRAWS


def peaked(vocab_size: int, seed: int = 0, scale: float = 2.5) -> Tensor:
    return torch.randn(vocab_size, generator=torch.Generator().manual_seed(seed)) * scale


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cold": {"temperature": 0.3},
    "hot": {"temperature": 1.7},
    "top_k": {"top_k": 7},
    "top_k of 1": {"top_k": 1},
    "large top_k": {"top_k": 90},
    "top_k beyond all lists": {"top_k": 1100},
    "top_p": {"top_p": 0.8},
    "tiny top_p": {"top_p": 1e-6},
    "wide top_p": {"top_p": 0.999, "temperature": 2.0},
    "min_p": {"min_p": 0.1},
    "all": {"temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.03},
    "top_p and min_p": {"top_p": 0.95, "min_p": 0.05},
}


@pytest.mark.parametrize("vocab_size", [5, 64, 1300])
@pytest.mark.parametrize("kind", KINDS)
def test_frequencies_are_the_probabilities_of_the_definition(
    kind: str, vocab_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = SamplingParams(max_tokens=1, **KINDS[kind])
    logits = peaked(vocab_size)
    expected = naive_distribution(logits, params)
    got = frequencies(monkeypatch, logits, params)
    assert not got[expected == 0].any()
    # An even grid of uniforms hits an interval of length p between floor(pN) and ceil(pN) times.
    assert float((got - expected).abs().max()) <= 1.01 / NUM_DRAWS


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    vocab_size=st.integers(2, 700),
    temperature=st.floats(0.05, 2.0),
    top_k=st.one_of(st.just(0), st.integers(1, 800)),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 0.99)),
    min_p=st.one_of(st.just(0.0), st.floats(0.001, 1.0)),
    penalty=st.sampled_from([1.0, 1.3, 0.7]),
)
def test_every_draw_is_a_token_transformers_would_keep(
    seed: int, vocab_size: int, temperature: float, top_k: int, top_p: float, min_p: float, penalty: float
) -> None:
    params: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": penalty,
        "seed": seed,
    }
    logits = peaked(vocab_size, seed)
    rows = [request(index=at, prompt=(0, 1), answer=(1,), **params) for at in range(24)]
    allowed = transformers_distribution(logits, rows[0].params, [0, 1, 1])
    for result in sample(logits.expand(24, -1), *rows):
        # One token at the very edge of top_p may be kept or not, by rounding.
        probability = float(allowed[token(result)])
        if probability == 0.0:
            looser = SamplingParams(
                max_tokens=1,
                **{
                    **{k: v for k, v in params.items() if k != "seed"},
                    "top_p": min(top_p + 1e-5, 1.0),
                    "min_p": min_p * (1 - 1e-5),
                },
            )
            assert float(transformers_distribution(logits, looser, [0, 1, 1])[token(result)]) > 0.0


def test_distribution_equals_that_of_transformers_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = peaked(500)
    params = SamplingParams(max_tokens=1, temperature=0.8, top_k=50, top_p=0.92, min_p=0.02)
    expected = transformers_distribution(logits, params, [1])
    assert float((frequencies(monkeypatch, logits, params) - expected).abs().max()) <= 1.01 / NUM_DRAWS


def test_a_flat_distribution_needs_more_candidates_than_any_list(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.linspace(0.0, 0.01, 3000)
    params = SamplingParams(max_tokens=1, top_p=0.9)
    expected = naive_distribution(logits, params)
    got = frequencies(monkeypatch, logits, params)
    assert int((expected > 0).sum()) > 2048
    assert not got[expected == 0].any()
    assert float((got - expected).abs().max()) <= 1.01 / NUM_DRAWS


@pytest.mark.parametrize("vocab_size", [3, 63, 64, 65, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_greedy_rows_take_the_largest_logit(vocab_size: int, dtype: torch.dtype) -> None:
    logits = torch.stack([peaked(vocab_size, seed) for seed in range(8)]).to(dtype)
    results = sample(logits, *(request(f"r{at}", temperature=0.0) for at in range(8)))
    assert [token(result) for result in results] == logits.float().argmax(-1).tolist()


def test_equal_logits_choose_the_lowest_id() -> None:
    assert token(sample(torch.zeros(1, 300), request(temperature=0.0))[0]) == 0


class TestIndependence:
    MATES: tuple[dict[str, Any], ...] = tuple(KINDS.values())

    def test_a_seeded_row_does_not_depend_on_its_batch_mates(self) -> None:
        logits = torch.stack([peaked(1300, at) for at in range(len(self.MATES))])
        rows = [
            request(f"r{at}", seed=at, logprobs=at % 3, frequency_penalty=at % 2, **mate)
            for at, mate in enumerate(self.MATES)
        ]
        together = sample(logits, *rows)
        alone = [sample(logits[at : at + 1], row)[0] for at, row in enumerate(rows)]
        backwards = sample(logits.flip(0), *rows[::-1])[::-1]
        assert together == alone == backwards

    def test_the_draw_depends_on_seed_index_and_position_only(self) -> None:
        logits = torch.zeros(1, 1 << 16)

        def draw(**options: Any) -> int:
            return token(sample(logits, request(**options))[0])

        first = draw(name="a", seed=5)
        assert draw(name="b", seed=5, prompt=(9, 9)) == first
        others = [draw(seed=6), draw(seed=5, index=1), draw(seed=5, answer=(4,)), draw(seed=-5)]
        assert len({first, *others}) == 5

    def test_unseeded_requests_differ_by_arrival_and_by_the_engine_s_seed(self) -> None:
        logits = torch.zeros(1, 1 << 16)
        first, second = request(), request()
        second.arrival = 1
        drawn = [token(sample(logits, r, seed=seed)[0]) for r in (first, second) for seed in (0, 1)]
        assert len(set(drawn)) == 4
        assert token(sample(logits, first)[0]) == drawn[0]

    def test_huge_and_negative_seeds_work(self) -> None:
        logits = torch.zeros(1, 100)
        for seed in (-(2**63), 2**63 - 1, 2**64 + 3):
            token(sample(logits, request(seed=seed))[0])


class TestRowsThatFail:
    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_a_row_that_is_not_finite_fails_alone(self, bad: float) -> None:
        logits = torch.stack([peaked(100, at) for at in range(4)])
        logits[1, 70] = bad
        rows = [
            request(f"r{at}", **kind) for at, kind in enumerate([{}, {"logprobs": 2}, {"top_p": 0.5}, {"top_k": 3}])
        ]
        results = sample(logits, *rows)
        assert results[1] == NOT_FINITE
        clean = sample(logits[[0, 2, 3]], rows[0], rows[2], rows[3])
        assert [results[0], results[2], results[3]] == clean

    def test_logits_of_minus_infinity_are_never_drawn(self) -> None:
        logits = torch.zeros(1, 100)
        logits[0, :99] = float("-inf")
        for kind in KINDS.values():
            assert token(sample(logits, request(**kind))[0]) == 99

    def test_a_row_without_any_finite_logit_fails(self) -> None:
        assert sample(torch.full((1, 9), float("-inf")), request()) == [NOT_FINITE]

    def test_a_row_with_nothing_allowed_says_so(self) -> None:
        row = request(allowed_token_ids=(7,), min_tokens=2)
        assert sample(torch.zeros(2, 9), row, request(), eos=(7,))[0] == NOTHING_ALLOWED


WISHES: dict[str, dict[str, Any]] = {
    "logprobs": {"logprobs": 2},
    "bias": {"logit_bias": {77: 50.0}},
    "allowed tokens": {"allowed_token_ids": (5, 6)},
    "bad words": {"bad_words_token_ids": ((3,),)},
    "least length": {"min_tokens": 2},
    "penalties": {"repetition_penalty": 1.5},
    "temperature": {"temperature": 1.0},
}


@pytest.mark.parametrize("wish", WISHES)
def test_greedy_rows_take_the_same_tokens_beside_rows_with_wishes(wish: str) -> None:
    """Alone they take one short way, and with others the long one; a wish is never lost on the short one."""
    params = SamplingParams(max_tokens=9, **{"temperature": 0.0} | WISHES[wish])
    wanting = Request("wanting", params, [1, 2, 3], 3)
    greedy = [Request(f"r{at}", SamplingParams(max_tokens=9, temperature=0.0), [1], 1) for at in range(3)]
    assert not params.takes_highest
    assert all(request.takes_highest for request in greedy)
    logits = torch.randn(4, 500, generator=torch.Generator().manual_seed(3)).round()
    logits[1, 9] = float("nan")
    alone = sample(logits[:3], *greedy)
    assert alone[1] == NOT_FINITE
    assert sample(logits, *greedy, wanting)[:3] == alone
    assert [token(alone[row]) for row in (0, 2)] == logits[[0, 2]].argmax(-1).tolist()
