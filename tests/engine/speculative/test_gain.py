"""Tokens per second with drafts beside none, on simulated machines: never much less, and more where there is more.

Requests come and go, and each token of a draft is right with a given probability. Only the times are simulated.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from specserve.engine.api import GenerationRequest
from specserve.engine.config import SpeculativeConfig
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.speculative.drafter import Drafter

Machine = Callable[[int], float]
"""Seconds of a step by its tokens."""
MACHINES: dict[str, Machine] = {
    "flat": lambda tokens: 0.04,
    "bound by memory, then by arithmetic": lambda tokens: max(0.044, 0.017 + 0.005 * tokens),
    "arithmetic on top": lambda tokens: 0.04 + 0.01 * tokens,
    "arithmetic alone": lambda tokens: 0.01 * tokens,
    "twelve rows at a time": lambda tokens: 0.03 * -(-tokens // 12) + 0.002 * tokens,
}
MAX_ROWS, LONGEST, ANSWER = 32, 6, 200
ALLOWED_LOSS = 0.03
"""A trial share of 1 %, what has to be learnt first, and chance."""


class Guesser(Drafter):
    """Always has something to guess."""

    def _propose(self, request: Request, record: Any, count: int) -> list[int]:
        return [1] * count


def tokens_per_second(machine: Machine, rates: list[float], *, num_steps: int = 600, disturbed: float = 0.0) -> float:
    """`rates` by request: how likely a token of its drafts is right. `disturbed` steps take three times as long."""
    drafter = Guesser(SpeculativeConfig(num_speculative_tokens=LONGEST), MAX_ROWS)
    names, draw = count(), Random(7)

    def arrival() -> Request:
        wanted = GenerationRequest(
            request_id=f"r{next(names)}", prompt_token_ids=[1], params=SamplingParams(max_tokens=ANSWER)
        )
        request = Request.of(wanted)
        request.max_num_tokens = 1 + ANSWER
        return request

    requests = [arrival() for _ in rates]
    num_tokens, seconds = 0, 0.0
    for _ in range(num_steps):
        drafts = drafter.draft(requests, len(requests), 1000) if drafter.may_draft(len(requests)) else {}
        num_drafted = sum(map(len, drafts.values()))
        assert len(requests) + num_drafted <= max(MAX_ROWS, len(requests))
        drafter.plan(len(requests), num_drafted)
        took = machine(len(requests) + num_drafted) * (3.0 if draw.random() < disturbed else 1.0)
        for place, (request, rate) in enumerate(zip(requests, rates, strict=True)):
            draft = drafts.get(request.request_id, [])
            accepted = next((at for at in range(len(draft)) if draw.random() >= rate), len(draft))
            request.token_ids += [1] * (1 + accepted)
            num_tokens += 1 + accepted
            if draft:
                drafter.learn(request, len(draft), accepted)
            if request.num_tokens >= request.max_num_tokens:
                drafter.forget(request)
                requests[place] = arrival()
        drafter.took(len(requests), took)
        seconds += took
    return num_tokens / seconds


def gain(machine: Machine, rates: list[float]) -> float:
    return tokens_per_second(machine, rates) / (len(rates) / machine(len(rates)))


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.6, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("num_requests", [1, 2, 8, 20])
@pytest.mark.parametrize("machine", MACHINES)
def test_drafts_cost_hardly_anything_whatever_becomes_of_them(machine: str, num_requests: int, rate: float) -> None:
    assert gain(MACHINES[machine], [rate] * num_requests) > 1 - ALLOWED_LOSS


@settings(max_examples=40, deadline=None)
@given(
    rates=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    flat_until=st.integers(1, 32),
    each=st.floats(0.0, 0.1),
    jump=st.floats(0.0, 0.1),
)
@example(rates=[1.0] + [0.0] * 7, flat_until=1, each=0.1, jump=0.0)
def test_also_for_requests_that_differ_and_other_machines(
    rates: list[float], flat_until: int, each: float, jump: float
) -> None:
    """A step of up to `flat_until` tokens takes 1, each further one `each`, and every twelve of them `jump`."""

    def machine(tokens: int) -> float:
        return 1.0 + each * max(0, tokens - flat_until) + jump * (tokens // 12)

    assert gain(machine, rates) > 1 - ALLOWED_LOSS


def test_a_machine_that_is_disturbed_misleads_little() -> None:
    """One step of fifty takes three times as long. Both forms are disturbed, not in the same steps."""
    for machine in MACHINES.values():
        disturbed = tokens_per_second(machine, [0.0] * 8, disturbed=0.02, num_steps=2000)
        assert disturbed / (8 / machine(8) / (1 + 2 * 0.02)) > 1 - 2 * ALLOWED_LOSS


@pytest.mark.parametrize(
    ("machine", "num_requests", "rate", "least"),
    [
        ("flat", 1, 0.97, 5.0),
        ("flat", 8, 0.97, 3.0),
        ("bound by memory, then by arithmetic", 1, 0.97, 4.0),
        ("bound by memory, then by arithmetic", 1, 0.3, 1.3),
        ("bound by memory, then by arithmetic", 8, 0.97, 1.15),
        ("arithmetic on top", 1, 0.9, 1.9),
        ("twelve rows at a time", 8, 0.9, 1.15),
    ],
)
def test_where_drafts_pay_they_are_found_out(machine: str, num_requests: int, rate: float, least: float) -> None:
    assert gain(MACHINES[machine], [rate] * num_requests) > least


def test_one_that_repeats_among_others_gains() -> None:
    machine = MACHINES["bound by memory, then by arithmetic"]
    assert gain(machine, [1.0, 1.0, *[0.0] * 6]) > 1.05
