"""How likely a draft is right: as often as those before it were, of late."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specserve.engine.speculative.chances import Chances


def test_without_drafts_every_token_is_as_likely_as_the_prior() -> None:
    chances = Chances(0.5)
    assert not chances.is_known
    assert chances.survival(3) == [0.5, 0.25, 0.125]


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.7, 1.0])
def test_rates_come_near_to_the_share_of_right_tokens(rate: float) -> None:
    chances, draw, told = Chances(0.5), Random(1), []
    for _ in range(5000):
        accepted = next((at for at in range(4) if draw.random() >= rate), 4)
        chances.learn(4, accepted, accepted + 1)
        told.append(chances.rates(2))
    later = told[100:]
    assert sum(one[0] for one in later) / len(later) == pytest.approx(rate, abs=0.05)
    assert sum(one[1] for one in later) / len(later) == pytest.approx(rate, abs=0.1)


def test_positions_have_rates_of_their_own() -> None:
    chances = Chances(0.5)
    for _ in range(50):
        chances.learn(3, 1, 2)
    first, second, third = chances.rates(3)
    assert first > 0.95
    assert second < 0.06
    assert third <= second, "never seen right: as the one before it"


def test_what_is_known_fades_with_the_tokens_of_the_answer() -> None:
    """A right draft after a long rest says more than many wrong ones before it."""
    told = []
    for num_tokens in (1, 500):
        chances = Chances(0.5)
        for _ in range(30):
            chances.learn(1, 0, 1)
        chances.learn(1, 1, num_tokens)
        told.append(chances.first())
    assert told[0] < 0.1
    assert told[1] > 0.7


@given(
    prior=st.floats(0, 1),
    drafts=st.lists(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(0, 999)))),
)
def test_chances_are_probabilities_that_never_rise(prior: float, drafts: list[tuple[int, int, int]]) -> None:
    chances = Chances(prior)
    for draft in drafts:
        chances.learn(*draft)
    told = chances.survival(10)
    assert all(0.0 <= value <= 1.0 for value in told)
    assert told == sorted(told, reverse=True)
    assert chances.is_known == bool(drafts)
