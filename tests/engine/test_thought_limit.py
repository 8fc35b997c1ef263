"""An answer with a limit on its thought ends it in time, and by itself whenever it wants to."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from simulated_runner import SimulatedRunner

from specserve.engine.api import GenerationRequest
from specserve.engine.batch import SampledToken, ScheduledBatch, StepOutput
from specserve.engine.core import EngineCore
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.params import SamplingParams
from specserve.engine.sampling.logits_processors import close_thought
from specserve.engine.sampling.metadata import needs_edit
from specserve.engine.scheduler import Scheduler
from specserve.engine.thought_limit import Thought, ThoughtLimit

OPEN, CLOSE, ALSO = (90, 91), (92, 93, 94), (95,)
VOCABULARY = 100


def limit(max_tokens: int, **options: Any) -> ThoughtLimit:
    return ThoughtLimit(max_tokens=max_tokens, starts=(OPEN,), ends=(CLOSE, ALSO), closing=CLOSE, **options)


def written(limit: ThoughtLimit, wishes: list[int]) -> list[int]:
    """The answer of a model that would write `wishes`, if it were not made to write something else."""
    thought, answer = Thought(limit), list[int]()
    for wish in wishes:
        forced = thought.forced(len(answer))
        answer.append(wish if forced is None else forced)
        thought.take([1, 2, *answer], len(answer))
    return answer


def place(tokens: list[int], part: tuple[int, ...]) -> int:
    return next((at for at in range(len(tokens)) if tuple(tokens[at : at + len(part)]) == part), -1)


@given(st.integers(0, 6), st.lists(st.sampled_from([1, 2, 90, 91, 92, 93, 94]), min_size=20, max_size=20))
def test_an_open_thought_is_closed_after_at_most_so_many_tokens(budget: int, wishes: list[int]) -> None:
    answer = written(limit(budget, is_open=True), wishes)
    end = place(answer, CLOSE)
    assert 0 <= end <= budget
    assert answer[end + 3 :] == wishes[end + 3 :], "behind the thought nothing is forced"
    assert answer[:end] == wishes[:end]


@given(st.integers(0, 6), st.lists(st.integers(1, 5), min_size=20, max_size=20))
def test_an_answer_without_thought_is_left_alone(budget: int, wishes: list[int]) -> None:
    assert written(limit(budget), wishes) == wishes


def test_a_thought_counts_from_its_mark_on() -> None:
    wishes = [7, *OPEN, *[1] * 10]
    assert written(limit(2), wishes) == [7, *OPEN, 1, 1, *CLOSE, 1, 1, 1, 1, 1]
    assert written(limit(0), wishes)[:6] == [7, *OPEN, *CLOSE]
    late = [1] * 8 + [*OPEN] + [1] * 8
    assert written(limit(0), late) == late, "a mark later in the answer begins nothing"


def test_a_mark_that_is_being_written_when_the_limit_is_reached_is_finished_and_not_begun_again() -> None:
    assert written(limit(3, is_open=True), [1, 92, 93, 5, 6, 7]) == [1, *CLOSE, 6, 7]


def test_other_marks_end_a_thought_too() -> None:
    wishes = [1, *ALSO, *[2] * 10]
    assert written(limit(4, is_open=True), wishes) == wishes


class Sampling(SimulatedRunner):
    """Takes token 1 unless the edit of the logits leaves another."""

    def execute(self, batch: ScheduledBatch) -> StepOutput:
        output = super().execute(batch)
        for item in batch.requests:
            if item.samples:
                logits = torch.zeros(VOCABULARY)
                logits[1] = 1.0
                if needs_edit(item.request):
                    close_thought(logits, item.request, ())
                output.sampled[item.request.request_id] = SampledToken(int(logits.argmax()))
        return output


def test_it_holds_for_siblings_and_for_requests_that_are_preempted() -> None:
    cache = KVCacheManager(14, 4)
    scheduler = Scheduler(cache, max_num_seqs=8, max_num_batched_tokens=64, max_model_len=64)
    core = EngineCore(scheduler, Sampling(4))
    params = SamplingParams(max_tokens=24, thought=limit(9, is_open=True))
    core.add(
        [
            GenerationRequest(request_id=f"r{at}", prompt_token_ids=[5, 6, 7], params=params, parent_id="r", index=at)
            for at in range(3)
        ]
    )
    answers: dict[str, list[int]] = {}
    while core.has_requests:
        for gained in core.step():
            answers.setdefault(gained.request_id, []).extend(gained.token_ids)
    assert core.stats().num_preemptions > 0
    assert answers == {f"r{at}": [*[1] * 9, *CLOSE, *[1] * 12] for at in range(3)}
