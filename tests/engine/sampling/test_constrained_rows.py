"""Rows with a grammar get tokens with the probabilities they have under its mask, however the grammar was asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from grammar_rows import EOS, SIZE, VOCABULARY, allowed_by, constrained, matcher
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_sampling import naive_distribution, request
from scipy.stats import chisquare
from torch import Tensor

from specserve.engine.batch import SampledToken
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.sampling import grammar_masks
from specserve.engine.sampling.candidate_draw import draw_candidates
from specserve.engine.sampling.constrained_rows import NOTHING_ALLOWED
from specserve.engine.sampling.descending_draw import draw_descending
from specserve.engine.sampling.grammar_masks import MaskFiller
from specserve.engine.sampling.logprobs import TokenLogprob
from specserve.engine.sampling.metadata import SamplingMetadata
from specserve.engine.sampling.sampler import Sampler

NUM_DRAWS = 2500
NEVER = float("-inf")

STATES: dict[str, tuple[str, bytes]] = {
    "half of the tokens": ("[a-h0-9 ]{40}", b"a"),
    "few": ("(ab|b0|c 1)+", b""),
    "the end too": ("[ab]*", b"ab"),
}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "hot": {"temperature": 1.7},
    "top_k": {"top_k": 7},
    "large top_k": {"top_k": 90, "temperature": 1.5},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.1},
    "all": {"temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.03},
    "top_p and min_p": {"top_p": 0.95, "min_p": 0.05},
}


def sampled(logits: Tensor, requests: list[Request], *, fill_all_ahead: bool = False) -> list[SampledToken | str]:
    masks = MaskFiller(SIZE, VOCABULARY.eos_token_ids, fill_all_ahead=fill_all_ahead).begin(requests)
    metadata = SamplingMetadata.of(requests, VOCABULARY.eos_token_ids)
    return Sampler(seed=3).sample(logits.clone(), metadata, masks)


def tokens(results: list[SampledToken | str]) -> list[int]:
    assert all(isinstance(result, SampledToken) for result in results), results
    return [result.token_id for result in results if isinstance(result, SampledToken)]


def masked(logits: Tensor, allowed: set[int]) -> Tensor:
    forbidden = torch.ones(SIZE, dtype=torch.bool)
    forbidden[list(allowed)] = False
    return logits.masked_fill(forbidden, NEVER)


def random_logits(seed: int = 0, scale: float = 2.5) -> Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(seed)) * scale


def agreeing(logits: Tensor, allowed: set[int]) -> Tensor:
    """As a trained model's: nearly all probability is with what is allowed."""
    return logits + 6 * (masked(torch.zeros(SIZE), allowed) == 0)


@pytest.mark.parametrize(("state", "agrees"), [*((state, False) for state in STATES), ("half of the tokens", True)])
@pytest.mark.parametrize("kind", KINDS)
def test_frequencies_are_those_of_the_softmax_under_the_mask(state: str, kind: str, agrees: bool) -> None:
    pattern, answer = STATES[state]
    params = SamplingParams(max_tokens=9, **KINDS[kind])
    grammar = constrained(pattern, answer).matcher
    assert grammar is not None
    allowed = allowed_by(grammar)
    logits = agreeing(random_logits(), allowed) if agrees else random_logits()
    expected = naive_distribution(masked(logits, allowed), params).numpy()
    drawn: list[int] = []
    for first in range(0, NUM_DRAWS, 500):
        requests = [Request(f"r{at}", params, [1, 2, 3, *answer], 3, arrival=at) for at in range(first, first + 500)]
        for made in requests:
            made.matcher = grammar.deep_copy()
            made.wants_mask = made.arrival % 3 == 0
        drawn += tokens(sampled(logits.expand(500, -1), requests))
    counts = np.bincount(drawn, minlength=SIZE)
    assert not counts[expected == 0].any()
    order = np.argsort(-expected)
    often = [place for place in order if expected[place] * NUM_DRAWS >= 8]
    rest = [place for place in order if 0 < expected[place] * NUM_DRAWS < 8]
    found, wanted = counts[often].tolist(), (expected[often] * NUM_DRAWS).tolist()
    if rest:
        found, wanted = [*found, counts[rest].sum()], [*wanted, expected[rest].sum() * NUM_DRAWS]
    if len(found) > 1 and min(wanted) > 1:
        assert chisquare(found, np.array(wanted) * NUM_DRAWS / sum(wanted)).pvalue > 1e-3


@pytest.mark.parametrize("scale", [2.5, 0.0])
@pytest.mark.parametrize("state", STATES)
def test_temperature_zero_takes_the_largest_allowed_logit_of_the_lowest_id(state: str, scale: float) -> None:
    pattern, answer = STATES[state]
    for seed in range(30):
        logits = random_logits(seed, scale).round()  # many are equal
        made = constrained(pattern, answer, temperature=0.0)
        assert made.matcher is not None
        wanted = int(masked(logits, allowed_by(made.matcher)).argmax())
        assert tokens(sampled(logits[None], [made])) == [wanted]


def rows(seed: int, *, wants_mask: bool) -> list[Request]:
    made = []
    for at, (kind, (pattern, answer)) in enumerate((kind, state) for kind in KINDS for state in STATES.values()):
        made.append(constrained(pattern, answer, **{**KINDS[kind], "seed": seed + at}))
        made[-1].wants_mask = wants_mask
    return made


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 1.0, 4.0]), bf16=st.booleans())
def test_a_seeded_row_gets_the_same_token_however_its_grammar_was_asked(seed: int, scale: float, bf16: bool) -> None:
    num_rows = len(KINDS) * len(STATES)
    logits = torch.stack([random_logits(seed + row, scale) for row in range(num_rows)])
    logits = logits.bfloat16().float() if bf16 else logits
    ahead = tokens(sampled(logits, rows(seed, wants_mask=True)))
    assert tokens(sampled(logits, rows(seed, wants_mask=False))) == ahead
    assert tokens(sampled(logits, rows(seed, wants_mask=False), fill_all_ahead=True)) == ahead
    alone = [sampled(logits[[at]], [made]) for at, made in enumerate(rows(seed, wants_mask=False))]
    assert [token_id for result in alone for token_id in tokens(result)] == ahead
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(grammar_masks, "MAX_TESTS", 2)
        assert tokens(sampled(logits, rows(seed, wants_mask=False))) == ahead


def test_what_fits_anyway_is_what_would_be_drawn_without_a_grammar() -> None:
    for seed in range(20):
        logits = random_logits(seed)
        free = tokens(sampled_free(logits, seed))
        anything = constrained(r"(.|\n)*", seed=seed)
        assert anything.matcher is not None
        if free[0] in allowed_by(anything.matcher):
            assert tokens(sampled(logits[None], [anything])) == free


def sampled_free(logits: Tensor, seed: int) -> list[SampledToken | str]:
    return Sampler(seed=3).sample(logits[None].clone(), SamplingMetadata.of([request(seed=seed)]))


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    length=st.integers(1, 60),
    share=st.sampled_from([0.1, 0.5, 0.95]),
    scale=st.sampled_from([0.0, 0.5, 3.0]),
    draw=st.floats(0, 1, exclude_max=True),
    params=st.builds(
        SamplingParams,
        max_tokens=st.just(1),
        temperature=st.sampled_from([0.3, 1.0, 2.0]),
        top_k=st.sampled_from([0, 1, 3, 20]),
        top_p=st.sampled_from([0.1, 0.7, 0.95, 1.0]),
        min_p=st.sampled_from([0.0, 0.02, 0.4]),
    ),
)
def test_a_draw_that_is_decided_early_is_the_one_of_the_whole_line(
    seed: int, length: int, share: float, scale: float, draw: float, params: SamplingParams
) -> None:
    dice = np.random.default_rng(seed)
    logits = np.sort(dice.normal(size=80) * scale)[::-1].astype(np.float32)
    allowed = dice.random(80) < share
    total = float(np.exp((logits - logits[0]) / params.temperature).sum()) if not params.top_k else float("inf")
    asked: list[int] = []

    def accepts(token_id: int) -> bool:
        asked.append(token_id)
        return bool(allowed[token_id])

    found = draw_descending(logits[:length].tolist(), list(range(length)), accepts, params, draw, total)
    assert asked == list(range(len(asked)))  # each once, in order
    if found is not None:
        values = torch.from_numpy(logits[allowed])[None]
        ids = torch.from_numpy(np.flatnonzero(allowed))[None]
        assert draw_candidates(values, ids, [params], np.array([draw])).tolist() == [found]


@pytest.mark.parametrize("share", [1.0, 0.9])
def test_a_likely_token_is_decided_after_few_questions(share: float) -> None:
    logits = [0.0, *[-6.0] * 255]
    dice = np.random.default_rng(0)
    for params in (SamplingParams(max_tokens=1, top_k=20, top_p=0.8), SamplingParams(max_tokens=1, top_p=0.9)):
        asked = 0

        def accepts(token_id: int) -> bool:
            nonlocal asked
            asked += 1
            return token_id == 0 or bool(dice.random() < share)

        total = float("inf") if params.top_k else sum(np.exp(logits))
        assert draw_descending(logits, list(range(256)), accepts, params, 0.3, total) == 0
        assert asked == 1


class TestBans:
    def test_what_is_biased_or_forbidden_counts_before_the_grammar(self) -> None:
        logits = torch.zeros(SIZE)
        forbidden = [token_id for token_id in allowed_by(matcher("[ab]+")) if token_id != ord("b")]
        made = [constrained("[ab]+", seed=seed, bad_words_token_ids=[[id_] for id_ in forbidden]) for seed in range(9)]
        assert tokens(sampled(logits.expand(9, -1), made)) == [ord("b")] * 9

    @pytest.mark.parametrize("params", [{}, {"temperature": 0.0}, {"top_p": 0.5}, {"top_k": 3}])
    def test_they_are_undone_where_nothing_is_left(self, params: dict[str, Any]) -> None:
        nothing_else = constrained("[ab]", allowed_token_ids=[ord("x")], **params)
        at_all = constrained("[ab]", allowed_token_ids=[SIZE + 5], **params)
        logits = masked(torch.zeros(SIZE), {ord("a"), ord("x")})
        assert tokens(sampled(logits.expand(2, -1), [nothing_else, at_all])) == [ord("a")] * 2

    def test_a_row_whose_model_excludes_all_that_is_allowed_fails_alone(self) -> None:
        logits = torch.zeros(2, SIZE)
        logits[0, [ord("a"), ord("b"), *range(257, SIZE)]] = NEVER
        failed, fine = sampled(logits, [constrained("[ab]"), constrained("[ab]")])
        assert failed == NOTHING_ALLOWED
        assert isinstance(fine, SampledToken)


def test_a_broken_row_fails_alone_and_an_end_token_does_not_save_it() -> None:
    broken, sound = constrained("[ab]"), constrained("[cd]")
    assert broken.matcher is not None
    assert not broken.matcher.consume_token(ord("x"))
    logits = torch.zeros(2, SIZE)
    logits[0, EOS] = 99.0
    broken.wants_mask = False
    failed, fine = sampled(logits, [broken, sound])
    assert "too complex" in str(failed)
    assert isinstance(fine, SampledToken)
    assert fine.token_id in (ord("c"), ord("d"))


def test_ignored_ends_are_not_taken_while_the_answer_can_go_on() -> None:
    logits = torch.zeros(SIZE)
    logits[EOS] = 50.0
    for params in KINDS.values():
        longer = constrained("[ab]*", ignore_eos=True, **params)
        over = constrained("a?", b"a", ignore_eos=True, **params)
        first, second = tokens(sampled(logits.expand(2, -1), [longer, over]))
        assert first in allowed_by(matcher("[ab]+"))
        assert second == EOS


def test_logprobs_are_those_before_the_grammar() -> None:
    logits = random_logits()
    result = sampled(logits[None], [constrained("(ab|b0|c 1)+", logprobs=2, top_k=3)])[0]
    assert isinstance(result, SampledToken)
    assert result.logprobs is not None
    wanted = logits.double().log_softmax(-1)
    assert result.logprobs.sampled == TokenLogprob(
        result.token_id,
        pytest.approx(float(wanted[result.token_id]), abs=1e-4),
        int((logits > logits[result.token_id]).sum()) + 1,
    )
