"""Who gets drafts and how long: what times and fates say is worth it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_runner import FreeRows

from specserve.engine.api import GenerationRequest
from specserve.engine.config import SpeculativeConfig
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.speculative.drafter import MARGIN, TRIAL_SHARE, Drafter, Guess, choose
from specserve.engine.speculative.step_costs import StepCosts

REPEATING = [1, 2, 3, 4] * 4


class Known(StepCosts):
    """Seconds of a step by its tokens."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        super().__init__()
        self._seconds = seconds

    def seconds(self, num_decodes: int, most: int) -> list[float]:
        return [self._seconds(num_decodes + drafted) for drafted in range(most + 1)]


def drafter(num_tokens: int = 4, max_rows: int = 16, costs: StepCosts | None = None) -> Drafter:
    return Drafter(SpeculativeConfig(num_speculative_tokens=num_tokens), max_rows, costs or FreeRows())


def decoding(name: str, token_ids: list[int], max_tokens: int = 10_000) -> Request:
    request = Request.of(
        GenerationRequest(request_id=name, prompt_token_ids=token_ids, params=SamplingParams(max_tokens=max_tokens))
    )
    request.max_num_tokens = len(token_ids) + max_tokens
    return request


def go_on(request: Request, num_tokens: int) -> None:
    for _ in range(num_tokens):
        request.token_ids.append(request.token_ids[-4])


def fate(guesses: Drafter, request: Request, num_drafted: int, num_accepted: int) -> None:
    go_on(request, num_accepted + 1)
    guesses.learn(request, num_drafted, num_accepted)


def test_a_repetition_is_drafted_in_full_where_it_costs_nothing() -> None:
    request = decoding("a", REPEATING)
    assert drafter().draft([request], 1, 100) == {"a": [1, 2, 3, 4]}
    assert drafter(2).draft([request], 1, 100) == {"a": [1, 2]}


def test_a_draft_leaves_room_for_the_token_behind_it() -> None:
    """One more token is chosen in any case; what could not be part of the answer is not computed."""
    assert drafter().draft([decoding("a", REPEATING, max_tokens=3)], 1, 100) == {"a": [1, 2]}
    assert drafter().draft([decoding("a", REPEATING, max_tokens=1)], 1, 100) == {}


def test_drafts_stay_within_the_tokens_and_the_rows_given() -> None:
    requests = [decoding(name, REPEATING) for name in "abc"]
    assert drafter().draft(requests, 3, 6) == {"a": [1, 2], "b": [1, 2], "c": [1, 2]}
    assert drafter(max_rows=5).draft(requests, 3, 100) == {"a": [1], "b": [1]}
    assert drafter(max_rows=5).draft(requests[:2], 4, 100) == {"a": [1]}, "decodes without drafts count too"
    assert not drafter(max_rows=3).may_draft(3)
    assert drafter(max_rows=3).may_draft(2)


def test_without_a_measured_step_nothing_is_drafted() -> None:
    guesses, request = drafter(costs=StepCosts()), decoding("a", REPEATING)
    assert guesses.draft([request], 1, 100) == {}
    guesses.plan(1, 0)
    guesses.took(1, 0.05)
    assert guesses.draft([request], 1, 100) == {"a": [1]}, "and then the first drafts are short"


def test_steps_with_prompts_tell_nothing_of_drafts() -> None:
    guesses, request = drafter(costs=StepCosts()), decoding("a", REPEATING)
    guesses.plan(1, 0)
    guesses.took(33, 0.9)
    assert guesses.draft([request], 1, 100) == {}
    guesses.plan(0, 0)  # a step of more decodes than may have drafts
    guesses.took(1, 0.9)
    assert guesses.draft([request], 1, 100) == {}


def test_those_whose_drafts_were_right_come_first() -> None:
    guesses, (wrong, right) = drafter(), (decoding("wrong", REPEATING), decoding("right", REPEATING))
    fate(guesses, wrong, 4, 0)
    fate(guesses, right, 4, 4)
    assert list(guesses.draft([wrong, right], 2, 4)) == ["right"]


def test_drafts_get_shorter_where_they_fail_and_grow_again() -> None:
    """Each token takes a fifth of what a step without drafts takes."""
    guesses, request = drafter(8, costs=Known(lambda tokens: 4.0 + tokens)), decoding("a", REPEATING)
    lengths = []
    for is_right in [False] * 10 + [True] * 60:
        lengths.append(len(guesses.draft([request], 1, 100).get("a", [])))
        if lengths[-1]:
            fate(guesses, request, lengths[-1], lengths[-1] if is_right else 0)
        else:
            go_on(request, 1)
    assert lengths[0] == 1
    assert lengths[9] == 0
    assert lengths[-1] == 8
    grown = lengths[lengths.index(0) :]
    assert [length for length in grown if length > 1] == sorted(length for length in grown if length > 1)


def test_trials_cost_no_more_than_their_share_of_the_time() -> None:
    """Every token costs as much as the first: no draft pays. Nothing that is tried is right."""
    guesses = drafter(costs=Known(lambda tokens: 1.0 * tokens))
    requests = [decoding(name, REPEATING) for name in "abcd"]
    num_tried = dict.fromkeys("abcd", 0)
    for _ in range(2000):
        drafts = guesses.draft(requests, 4, 100)
        for request in requests:
            go_on(request, 1)
            if draft := drafts.get(request.request_id):
                assert len(draft) == 1
                num_tried[request.request_id] += 1
                guesses.learn(request, 1, 0)
    assert sum(num_tried.values()) <= 2000 * 4 * TRIAL_SHARE
    assert min(num_tried.values()) >= 2000 * TRIAL_SHARE * 0.9, "all have their turn"


def test_a_request_that_begins_to_repeat_is_found_out() -> None:
    guesses, request = drafter(costs=Known(lambda tokens: 3.0 + tokens)), decoding("a", REPEATING)
    for _ in range(300):
        draft = guesses.draft([request], 1, 100).get("a", [])
        go_on(request, 1)
        if draft:
            guesses.learn(request, len(draft), 0)
    lengths = []
    for _ in range(300):
        lengths.append(len(guesses.draft([request], 1, 100).get("a", [])))
        if lengths[-1]:
            fate(guesses, request, lengths[-1], lengths[-1])
        else:
            go_on(request, 1)
    assert lengths[-1] == 4
    assert lengths.count(4) > 100


def test_the_next_request_is_expected_to_be_like_those_before() -> None:
    guesses = drafter(costs=Known(lambda tokens: 0.5 + tokens))
    assert guesses.draft([decoding("first", REPEATING)], 1, 100) == {}
    for name in "abcdefgh":
        request = decoding(name, REPEATING)
        for _ in range(10):
            fate(guesses, request, 4, 4)
        guesses.forget(request)
    assert len(guesses.draft([decoding("next", REPEATING)], 1, 100)["next"]) > 0


@given(
    survivals=st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=8), min_size=1, max_size=6),
    more=st.integers(0, 3),
    rises=st.lists(st.floats(0, 1), max_size=30),
)
def test_no_other_drafts_of_so_many_tokens_promise_more(
    survivals: list[list[float]], more: int, rises: list[float]
) -> None:
    """Against every number of tokens, each with the likeliest ones."""
    guesses = [
        Guess(decoding(str(at), [1]), [0] * len(one), sorted(one, reverse=True)) for at, one in enumerate(survivals)
    ]
    num_decodes, costs = len(guesses) + more, [1.0]
    for rise in rises:
        costs.append(costs[-1] + rise)
    lengths, gain = choose(guesses, num_decodes, costs)
    number = sum(lengths)
    assert number < len(costs)
    assert all(length <= len(guess.tokens) for length, guess in zip(lengths, guesses, strict=True))

    def rate(gained: float, number: int) -> float:
        return (num_decodes + gained) / costs[number]

    chances = sorted((chance for guess in guesses for chance in guess.survival), reverse=True)
    gained = sum(sum(guess.survival[:length]) for length, guess in zip(lengths, guesses, strict=True))
    assert gained == pytest.approx(sum(chances[:number]))
    others = [rate(sum(chances[:other]), other) for other in range(1, min(len(chances), len(costs) - 1) + 1)]
    plain = rate(0.0, 0) * (1 + MARGIN)
    assert number == 0 or 1 + gain == pytest.approx(rate(gained, number) / rate(0.0, 0))
    assert rate(gained, number) >= max(others, default=0.0) * (1 - 1e-9) or plain >= max(others) * (1 - 1e-9)
    assert number == 0 or rate(gained, number) >= plain * (1 - 1e-9)


def test_embeddings_are_not_guessed() -> None:
    request = decoding("a", [-1] * 6)
    request.prompt_embeds = b""
    assert drafter().draft([request], 1, 100) == {}
    request.token_ids += [7, 8, 7, 8, 7]
    assert drafter().draft([request], 1, 100) == {"a": [8, 7, 8, 7]}


def test_what_is_remembered_of_a_request_ends_with_it() -> None:
    guesses, request = drafter(), decoding("a", REPEATING)
    guesses.draft([request], 1, 100)
    guesses.forget(request)
    assert not guesses._records
