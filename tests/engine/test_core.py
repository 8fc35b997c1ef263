"""The core over a simulated runner: what a failing or aborted step means for the others."""

from __future__ import annotations

import pytest
from simulated_runner import SimulatedRunner, continuation

from specserve.engine.api import FinishReason, GenerationRequest
from specserve.engine.batch import ScheduledBatch, StepOutput
from specserve.engine.core import EngineCore
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.params import SamplingParams
from specserve.engine.scheduler import Scheduler

BLOCK_SIZE = 4


class FailingRunner(SimulatedRunner):
    """Fails at the steps in `fails_at`, counted from 0."""

    def __init__(self, fails_at: set[int]) -> None:
        super().__init__(BLOCK_SIZE)
        self.fails_at, self.step = fails_at, -1

    def execute(self, batch: ScheduledBatch) -> StepOutput:
        self.step += 1
        if self.step in self.fails_at:
            raise RuntimeError("out of luck")
        return super().execute(batch)


def core_of(runner: SimulatedRunner) -> EngineCore:
    cache = KVCacheManager(64, BLOCK_SIZE)
    return EngineCore(Scheduler(cache, max_num_seqs=8, max_num_batched_tokens=32, max_model_len=128), runner)


def wanted(request_id: str, prompt: list[int], max_tokens: int = 6) -> GenerationRequest:
    return GenerationRequest(
        request_id=request_id, prompt_token_ids=prompt, params=SamplingParams(max_tokens=max_tokens)
    )


def drain(core: EngineCore) -> dict[str, list[int]]:
    tokens: dict[str, list[int]] = {}
    while core.has_requests:
        for gained in core.step():
            tokens.setdefault(gained.request_id, []).extend(gained.token_ids)
    return tokens


def test_requests_of_one_core_generate_what_each_would_alone() -> None:
    core = core_of(SimulatedRunner(BLOCK_SIZE))
    prompts = {"a": [1, 2, 3], "b": [4, 5, 6, 7, 8, 9], "c": [1, 2, 3, 4, 5]}
    assert core.add([wanted(name, prompt) for name, prompt in prompts.items()]) == []
    assert drain(core) == {name: continuation(prompt, 6) for name, prompt in prompts.items()}


def test_an_abort_frees_the_blocks_before_the_next_step_ends() -> None:
    core = core_of(SimulatedRunner(BLOCK_SIZE))
    core.add([wanted("a", list(range(1, 20)), max_tokens=50)])
    core.step()
    assert core.stats().num_used_blocks > 0
    core.abort(["a"])
    assert core.stats().num_used_blocks == 0
    assert not core.has_requests


def test_a_failing_step_fails_its_requests_and_not_later_ones() -> None:
    core = core_of(FailingRunner({1}))
    core.add([wanted("a", [1, 2, 3])])
    core.step()
    failed = core.step()
    assert [(p.request_id, p.finish_reason, "RuntimeError" in (p.error or "")) for p in failed] == [("a", None, True)]
    assert core.stats().num_used_blocks == 0
    core.add([wanted("b", [1, 2, 3])])
    assert drain(core)["b"] == continuation([1, 2, 3], 6)


def test_two_failing_steps_in_a_row_are_fatal() -> None:
    core = core_of(FailingRunner({0, 1}))
    core.add([wanted("a", [1, 2, 3])])
    core.step()
    core.add([wanted("b", [1, 2, 3])])
    with pytest.raises(RuntimeError, match="out of luck"):
        core.step()


def test_the_last_token_carries_the_finish_reason() -> None:
    core = core_of(SimulatedRunner(BLOCK_SIZE))
    core.add([wanted("a", [1, 2, 3], max_tokens=2)])
    steps = [core.step() for _ in range(2)]
    assert [p.finish_reason for step in steps for p in step] == [None, FinishReason.LENGTH]
