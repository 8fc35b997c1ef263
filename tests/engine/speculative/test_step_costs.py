"""What is known of the times of steps, what is guessed, and what is tried again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specserve.engine.speculative.step_costs import EXPIRES, NUM_KEPT, PLAIN_EVERY, PLAIN_SHARE, RETRY_AFTER, StepCosts


def measured(num_decodes: int, seconds: dict[int, float], times: int = 1) -> StepCosts:
    """`seconds` by number of drafted tokens."""
    costs = StepCosts()
    for _ in range(times):
        for num_drafted, one in seconds.items():
            costs.took(num_decodes, num_drafted, one)
    return costs


def test_a_step_without_drafts_comes_first() -> None:
    costs = StepCosts()
    assert costs.seconds(8, 24) == []
    costs.took(8, 0, 2.0)
    assert costs.seconds(7, 24) == [], "other numbers of decodes are other steps"


def test_the_first_drafts_are_short() -> None:
    """Half as many tokens again, or one: nothing is known of their price yet."""
    assert measured(8, {0: 2.0}).seconds(8, 24) == [2.0] * 5
    assert measured(1, {0: 2.0}).seconds(1, 24) == [2.0] * 2
    assert measured(8, {0: 2.0}).seconds(8, 3) == [2.0] * 4


def test_times_between_measured_widths_are_on_a_line() -> None:
    assert measured(4, {0: 2.0, 2: 2.0, 6: 4.0}).seconds(4, 6) == [2.0, 2.0, 2.0, 2.5, 3.0, 3.5, 4.0]


def test_wider_steps_than_any_before_are_guessed_to_go_on_as_steeply() -> None:
    told = measured(4, {0: 2.0, 2: 2.0, 6: 4.0}).seconds(4, 28)
    assert len(told) == 1 + 6 + 5, "half of the widest step more"
    assert told[7:] == [4.5, 5.0, 5.5, 6.0, 6.5]
    assert measured(4, {0: 2.0, 2: 6.0, 3: 6.0}).seconds(4, 4)[4] == pytest.approx(6.0 + 4.0 / 3)


def test_a_disturbed_step_does_not_hide_faster_wider_ones() -> None:
    costs = measured(8, {0: 2.0, 1: 50.0})
    for _ in range(2):
        costs.took(8, 4, 3.0)
    assert costs.seconds(8, 4) == [2.0, 3.0, 3.0, 3.0, 3.0]


def test_one_disturbed_step_among_others_changes_little() -> None:
    costs = measured(8, {0: 2.0, 4: 3.0}, times=NUM_KEPT)
    costs.took(8, 4, 90.0)
    assert costs.seconds(8, 4) == [2.0, 2.25, 2.5, 2.75, 3.0]


@pytest.mark.parametrize("gain", [0.04, 0.2, 0.5, 5.0])
def test_steps_without_drafts_are_measured_again_now_and_then(gain: float) -> None:
    """First often, then so that they cost no more than their share of what is gained."""
    costs, plain = measured(2, {0: 1.0}), [0]
    for step in range(1, 2000):
        is_due = costs.plain_is_due(2, gain)
        costs.took(2, 0 if is_due else 3, 1.0)
        plain += [step] * is_due
    gaps = [after - before for before, after in pairwise(plain)]
    assert gaps[: NUM_KEPT - 1] == sorted(gaps[: NUM_KEPT - 1])
    last = set(gaps[NUM_KEPT:])
    assert len(last) == 1
    assert last.pop() == pytest.approx(min(gain / PLAIN_SHARE, PLAIN_EVERY), abs=1)


@pytest.mark.parametrize("times", [1, 3, NUM_KEPT])
def test_a_width_that_once_took_long_is_tried_again(times: int) -> None:
    """The sooner, the less is known of it."""
    costs = measured(8, {0: 1.0})
    for _ in range(times):
        costs.took(8, 4, 9.0)
    for _ in range(RETRY_AFTER * times):
        assert costs.seconds(8, 4)[4] == 9.0
        costs.took(8, 0, 1.0)
    costs.took(8, 0, 1.0)
    assert costs.seconds(8, 4)[4] == 1.0


def test_times_of_long_ago_do_not_come_back() -> None:
    costs = measured(8, {0: 1.0, 4: 9.0})
    for _ in range(EXPIRES + 1):
        costs.took(8, 0, 1.0)
    costs.took(8, 4, 3.0)
    assert costs.seconds(8, 4)[4] == 3.0


@given(
    num_decodes=st.integers(1, 40),
    steps=st.lists(st.tuples(st.integers(0, 100), st.floats(0, 1e3)), max_size=40),
    most=st.integers(0, 100),
)
def test_times_never_fall_with_tokens(num_decodes: int, steps: list[tuple[int, float]], most: int) -> None:
    costs = StepCosts()
    for num_drafted, seconds in steps:
        costs.took(num_decodes, num_drafted, seconds)
    told = costs.seconds(num_decodes, most)
    assert len(told) <= most + 1
    assert all(after >= before * (1 - 1e-9) for before, after in pairwise(told))
