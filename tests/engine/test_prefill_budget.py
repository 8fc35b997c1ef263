"""Prompts beside answers: how long steps get, by a clock that tells what each number of tokens takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_runner import Served, continuation

from specserve.engine.batch import ScheduledBatch
from specserve.engine.config import SchedulerConfig
from specserve.engine.errors import InvalidParameterError, UnsupportedModelError
from specserve.engine.prefill_budget import FIRST_TOKENS, LEAST_TOKENS, TRUSTED_STEPS, PrefillBudget
from specserve.engine.runner.memory import choose_prefill_budget

MOST = 512
Clock = Callable[[int, int], float]


def measured(num_streams: int, num_prompt_tokens: int) -> float:
    """Seconds of a step of a model of half a billion parameters on two cores, about as measured."""
    alone = 0.026 + 0.001 * num_streams if num_streams else 0.0
    return alone + num_prompt_tokens * (0.00175 if num_streams else 0.002)


def steps(budget: PrefillBudget, clock: Clock, num_streams: int, num_tokens: int) -> list[int]:
    """A prompt of so many tokens beside streams: what each step computes of it."""
    chunks = []
    while num_tokens > 0:
        chunks.append(min(budget.tokens(num_streams, 1, MOST), num_tokens))
        num_tokens -= chunks[-1]
        budget.took(num_streams + chunks[-1], clock(num_streams, chunks[-1]))
    return chunks


def decode(budget: PrefillBudget, clock: Clock, num_streams: int, num_steps: int) -> None:
    for _ in range(num_steps):
        assert budget.tokens(num_streams, 0, MOST) == MOST
        budget.took(num_streams, clock(num_streams, 0))


def test_steps_with_a_prompt_take_the_asked_times_as_long_as_those_without() -> None:
    budget = PrefillBudget(2.5)
    decode(budget, measured, 4, 3)
    chunks = steps(budget, measured, 4, 1024)
    times = [measured(4, chunk) for chunk in chunks]
    assert max(times) <= 2.5 * measured(4, 0)
    assert min(times[1:-1]) > 2.3 * measured(4, 0), "and no time is left unused"


def test_a_prompt_alone_takes_the_whole_step() -> None:
    budget = PrefillBudget(2.5)
    assert budget.tokens(0, 1, MOST) == MOST


def test_what_streams_take_alone_is_seen_before_a_prompt_joins_them() -> None:
    budget = PrefillBudget(2.5)
    assert budget.tokens(4, 1, MOST) == 0
    budget.took(4, measured(4, 0))
    assert budget.tokens(4, 1, MOST) == FIRST_TOKENS


def test_a_prompt_computed_alone_tells_what_its_tokens_take() -> None:
    budget = PrefillBudget(3)
    budget.tokens(0, 1, MOST)
    budget.took(500, 1.0)
    decode(budget, measured, 1, 1)
    assert budget.tokens(1, 1, MOST) == 27  # twice 27 ms, at 2 ms each


@pytest.mark.parametrize(("num_streams", "most_prompts"), [(1, 1), (2, 1), (4, 2), (9, 4)])
def test_many_waiting_prompts_are_computed_in_large_pieces(num_streams: int, most_prompts: int) -> None:
    budget = PrefillBudget(2.5)
    decode(budget, measured, num_streams, 1)
    assert budget.tokens(num_streams, most_prompts, MOST) < MOST
    assert budget.tokens(num_streams, most_prompts + 1, MOST) == MOST


def test_one_slow_step_changes_nothing() -> None:
    budget = PrefillBudget(2.5)
    decode(budget, measured, 4, 5)
    usual = steps(budget, measured, 4, 400)[-2]
    budget.tokens(4, 1, MOST)
    budget.took(4 + 20, 9.0)
    assert budget.tokens(4, 1, MOST) == usual


def test_a_machine_that_gets_slower_is_followed() -> None:
    budget = PrefillBudget(2.5)
    decode(budget, measured, 4, 5)
    steps(budget, measured, 4, 1024)

    def slower(num_streams: int, num_prompt_tokens: int) -> float:
        return measured(num_streams, 0) + num_prompt_tokens * 0.004

    last = steps(budget, slower, 4, 400)[-2]
    assert 2.3 * slower(4, 0) < slower(4, last) <= 2.5 * slower(4, 0)


def test_streams_are_measured_again_after_many_steps_beside_prompts() -> None:
    budget = PrefillBudget(2.5)
    decode(budget, measured, 4, 1)
    chunks = steps(budget, measured, 4, 10_000)
    unseen = [number for number, chunk in enumerate(chunks) if chunk == 0]
    assert unseen == list(range(TRUSTED_STEPS, len(chunks), TRUSTED_STEPS + 1))


@settings(max_examples=100, deadline=None)
@given(
    seconds=st.lists(st.floats(0, 100), min_size=1, max_size=20),
    ratio=st.floats(1.001, 20),
    streams=st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_every_prompt_gets_on_however_long_steps_take(seconds: list[float], ratio: float, streams: list[int]) -> None:
    """At most one step in a row goes by without any of it, for each size of batch that was not seen yet."""
    budget = PrefillBudget(ratio)
    unseen = {count.bit_length() for count in streams}
    for number in range(TRUSTED_STEPS):
        count = streams[number % len(streams)]
        chunk = budget.tokens(count, 1, MOST)
        assert 0 <= chunk <= MOST
        if chunk == 0:
            unseen.remove(count.bit_length())  # a KeyError if it is the second time within so few steps
        else:
            assert chunk >= LEAST_TOKENS
        budget.took(count + chunk, seconds[number % len(seconds)])


@settings(max_examples=60, deadline=None)
@given(
    prompts=st.lists(st.integers(1, 90), min_size=1, max_size=8),
    arrivals=st.lists(st.integers(0, 12), min_size=8, max_size=8),
    seconds=st.lists(st.floats(0.001, 1), min_size=1, max_size=30),
    ratio=st.sampled_from([1.01, 2.5, 10]),
    num_blocks=st.sampled_from([45, 301]),
)
def test_texts_do_not_depend_on_the_clock(
    prompts: list[int], arrivals: list[int], seconds: list[float], ratio: float, num_blocks: int
) -> None:
    """However prompts are cut by it, with preemption too, everyone gets what he would get alone, and in time."""
    budget = PrefillBudget(ratio)
    served = Served(num_blocks=num_blocks, prefill_budget=budget)
    pending = sorted(zip(arrivals, prompts, strict=False), reverse=True)
    wanted = {}
    for step in range(2000):
        while pending and pending[-1][0] <= step:
            request = served.request(range(1, pending.pop()[1] + 1), max_tokens=9)
            wanted[request.request_id] = continuation(list(request.token_ids), 9)
            served.add(request)
        if not served.scheduler.has_requests and not pending:
            break
        batch: ScheduledBatch = served.step()
        budget.took(batch.num_tokens, seconds[step % len(seconds)])
    assert served.generated == wanted
    assert served.cache.num_used_blocks == 0


@pytest.mark.parametrize("ratio", [-1, 0.5, 1, float("inf"), float("nan")])
def test_a_limit_that_no_step_can_keep_is_refused(ratio: float) -> None:
    with pytest.raises(InvalidParameterError, match="must be 0 for no limit, or above 1"):
        SchedulerConfig(max_step_time_ratio=ratio)


def test_the_limit_is_for_cpus_and_can_be_lifted() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert choose_prefill_budget(SchedulerConfig(), cpu) is not None
    assert choose_prefill_budget(SchedulerConfig(max_step_time_ratio=0), cpu) is None
    assert choose_prefill_budget(SchedulerConfig(), gpu) is None
    with pytest.raises(UnsupportedModelError, match="CPUs only"):
        choose_prefill_budget(SchedulerConfig(max_step_time_ratio=3), gpu)
