"""A step launched before the tokens of the one before it are known: the same tokens as one step after the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_runner import EOS, SimulatedRunner, continuation, next_token, step_content

from specserve.engine.api import FinishReason, GenerationRequest
from specserve.engine.batch import RequestProgress, SampledToken, ScheduledBatch, StepOutput
from specserve.engine.config import SpeculativeConfig
from specserve.engine.core import EngineCore
from specserve.engine.kv_cache.blocks import DUMMY_BLOCK
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.scheduler import Scheduler
from specserve.engine.speculative.drafter import Drafter

BLOCK_SIZE = 3


@dataclass
class Row:
    """What the host knew of a row when it launched the step; `token_id` None: the step before chooses it."""

    request: Request
    position: int
    token_id: int | None
    table: list[int]


@dataclass
class QueuedStep:
    runner: QueuedRunner
    batch: ScheduledBatch
    rows: list[Row]
    chosen: dict[int, int] = field(default_factory=dict)

    def result(self) -> StepOutput:
        self.runner.catch_up(self)
        return StepOutput(
            sampled={row.request.request_id: SampledToken(self.chosen[id(row.request)]) for row in self.rows}
        )


class QueuedRunner(SimulatedRunner):
    """A device: launched steps run in order, later, over tables as they were at the launch."""

    def __init__(self, block_size: int, *, ends: bool = False) -> None:
        super().__init__(
            block_size, (lambda content: EOS if content % 7 == 0 else next_token(content)) if ends else next_token
        )
        self.queue: list[QueuedStep] = []
        self.num_ahead = 0

    def execute(self, batch: ScheduledBatch) -> StepOutput:
        self.catch_up(None)
        return super().execute(batch)

    def launch(self, batch: ScheduledBatch, after: QueuedStep | None) -> QueuedStep | None:
        if any(item.num_new_tokens != 1 or not item.samples for item in batch.requests):
            return None
        rows = []
        for item in batch.requests:
            known = item.request.token_ids
            token_id = known[item.start] if item.start < len(known) else None
            assert (token_id is None) == (after is not None)
            rows.append(Row(item.request, item.start, token_id, list(item.request.block_table)))
        self.num_ahead += after is not None
        self.queue.append(QueuedStep(self, batch, rows))
        return self.queue[-1]

    def catch_up(self, last: QueuedStep | None) -> None:
        """Run what is queued, up to and with `last`."""
        before: QueuedStep | None = None
        while self.queue:
            step = self.queue[0]
            for row in step.rows:
                token_id = row.token_id
                if token_id is None:
                    source = before or self.finished
                    token_id = source.chosen[id(row.request)]
                content = hash(row.request.cache_salt) % (1 << 61)
                if row.position:
                    content = self.slots[
                        row.table[(row.position - 1) // self.block_size], (row.position - 1) % self.block_size
                    ]
                content = step_content(content, token_id)
                block = row.table[row.position // self.block_size]
                assert block != DUMMY_BLOCK
                self.slots[block, row.position % self.block_size] = content
                step.chosen[id(row.request)] = self.choose(content)
            self.queue.pop(0)
            before = self.finished = step
            if step is last:
                return


def served(runner: QueuedRunner, *, looks_ahead: bool, num_blocks: int, max_num_seqs: int) -> EngineCore:
    scheduler = Scheduler(
        KVCacheManager(num_blocks, BLOCK_SIZE),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + 5,
        max_model_len=40,
        eos_token_ids=[EOS],
    )
    return EngineCore(scheduler, runner, launcher=runner if looks_ahead else None)


@dataclass
class Arrival:
    at_step: int
    prompt: list[int]
    max_tokens: int
    aborted_after: int | None
    """Steps; as a stop string in the API process would."""


ARRIVALS = st.lists(
    st.builds(
        Arrival,
        at_step=st.integers(0, 12),
        prompt=st.lists(st.integers(1, 5), min_size=1, max_size=12),
        max_tokens=st.integers(1, 14),
        aborted_after=st.one_of(st.none(), st.none(), st.integers(0, 9)),
    ),
    min_size=1,
    max_size=7,
)


def play(core: EngineCore, arrivals: list[Arrival]) -> dict[str, tuple[list[int], FinishReason | None]]:
    """Every request's tokens and how it ended."""
    tokens: dict[str, list[int]] = {f"r{at}": [] for at in range(len(arrivals))}
    ended: dict[str, FinishReason | None] = {}

    def take(progress: list[RequestProgress]) -> None:
        for item in progress:
            assert item.error is None
            assert item.request_id not in ended
            tokens[item.request_id] += item.token_ids
            if item.finish_reason is not None:
                ended[item.request_id] = item.finish_reason

    step, waiting = 0, dict(enumerate(arrivals))
    while waiting or core.has_requests:
        for at, arrival in list(waiting.items()):
            if arrival.at_step <= step:
                params = SamplingParams(max_tokens=arrival.max_tokens)
                take(core.add([GenerationRequest(request_id=f"r{at}", prompt_token_ids=arrival.prompt, params=params)]))
                del waiting[at]
        for at, arrival in enumerate(arrivals):
            if (
                arrival.aborted_after is not None
                and step == arrival.at_step + arrival.aborted_after
                and at not in waiting
            ):
                if f"r{at}" not in ended:
                    ended[f"r{at}"] = FinishReason.ABORT
                core.abort([f"r{at}"])
        if core.has_requests:
            take([item for item in core.step() if ended.get(item.request_id) is not FinishReason.ABORT])
        step += 1
        assert step < 2000
    return {request_id: (tokens[request_id], ended.get(request_id)) for request_id in tokens}


@settings(max_examples=150, deadline=None)
@given(arrivals=ARRIVALS, num_blocks=st.integers(16, 40), max_num_seqs=st.integers(1, 5), ends=st.booleans())
def test_tokens_are_those_of_the_engine_that_waits(
    arrivals: list[Arrival], num_blocks: int, max_num_seqs: int, ends: bool
) -> None:
    """Under aborts, preemption and ends that nobody could foresee. An aborted request's tokens are a beginning."""
    runs = [
        play(
            served(
                QueuedRunner(BLOCK_SIZE, ends=ends), looks_ahead=ahead, num_blocks=num_blocks, max_num_seqs=max_num_seqs
            ),
            arrivals,
        )
        for ahead in (False, True)
    ]
    for request_id, (tokens, reason) in runs[0].items():
        found, other_reason = runs[1][request_id]
        if FinishReason.ABORT in (reason, other_reason):
            shorter = min(len(tokens), len(found))
            assert tokens[:shorter] == found[:shorter]
        else:
            assert (found, other_reason) == (tokens, reason)


def test_decodes_are_launched_ahead() -> None:
    runner = QueuedRunner(BLOCK_SIZE)
    core = served(runner, looks_ahead=True, num_blocks=40, max_num_seqs=4)
    found = play(core, [Arrival(0, [1, 2, 3], 10, None), Arrival(0, [4, 5], 6, None)])
    assert found["r0"] == (continuation([1, 2, 3], 10), FinishReason.LENGTH)
    assert found["r1"] == (continuation([4, 5], 6), FinishReason.LENGTH)
    assert runner.num_ahead >= 7


@pytest.mark.parametrize("may_draft", [False, True])
def test_times_are_told_of_steps_that_were_waited_for_alone(may_draft: bool) -> None:
    """Where drafts may come, no step is launched ahead, and what a step without them takes has to be known."""
    runner, told = QueuedRunner(BLOCK_SIZE), []
    drafter = Drafter(SpeculativeConfig(), 100) if may_draft else None  # knows no times: drafts nothing
    scheduler = Scheduler(
        KVCacheManager(40, BLOCK_SIZE), max_num_seqs=4, max_num_batched_tokens=9, max_model_len=40, drafter=drafter
    )
    core = EngineCore(scheduler, runner, launcher=runner, took=lambda num_tokens, seconds: told.append(num_tokens))
    play(core, [Arrival(0, [1, 2, 3], 6, None)])
    assert told == ([3, 1, 1, 1, 1, 1] if may_draft else [3])
    assert (runner.num_ahead == 0) == may_draft


def test_a_request_that_could_start_is_not_held_up() -> None:
    runner = QueuedRunner(BLOCK_SIZE)
    core = served(runner, looks_ahead=True, num_blocks=40, max_num_seqs=4)
    core.add([GenerationRequest(request_id="a", prompt_token_ids=[1, 2], params=SamplingParams(max_tokens=30))])
    for _ in range(4):
        core.step()
    core.add([GenerationRequest(request_id="b", prompt_token_ids=[3], params=SamplingParams(max_tokens=5))])
    gained = [{item.request_id for item in core.step()} for _ in range(2)]
    assert gained == [{"a"}, {"a", "b"}]


def test_a_new_request_under_the_id_of_one_that_just_ended_can_be_aborted() -> None:
    runner = QueuedRunner(BLOCK_SIZE, ends=False)
    core = served(runner, looks_ahead=True, num_blocks=40, max_num_seqs=4)
    core.add([GenerationRequest(request_id="a", prompt_token_ids=[1, 2], params=SamplingParams(max_tokens=30))])
    other = GenerationRequest(request_id="b", prompt_token_ids=[5], params=SamplingParams(max_tokens=30))
    core.add([other])
    for _ in range(4):
        core.step()
    core.abort(["a"])
    core.step()
    core.add([GenerationRequest(request_id="a", prompt_token_ids=[1, 2], params=SamplingParams(max_tokens=30))])
    core.abort(["a"])
    core.step()
    core.step()
    core.abort(["b"])
    for _ in range(3):
        core.step()
    assert not core.has_requests


def test_a_step_that_fails_leaves_nothing_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = QueuedRunner(BLOCK_SIZE)
    core = served(runner, looks_ahead=True, num_blocks=40, max_num_seqs=4)
    core.add([GenerationRequest(request_id="a", prompt_token_ids=[1, 2], params=SamplingParams(max_tokens=30))])
    for _ in range(3):
        core.step()

    def broken(step: QueuedStep) -> StepOutput:
        raise RuntimeError("the device is lost")

    with monkeypatch.context() as patch:
        patch.setattr(QueuedStep, "result", broken)
        failed = core.step()
    assert [item.request_id for item in failed] == ["a"]
    assert failed[0].error is not None
    core.add([GenerationRequest(request_id="b", prompt_token_ids=[3], params=SamplingParams(max_tokens=3))])
    tokens = [token for _ in range(4) for item in core.step() for token in item.token_ids]
    assert tokens == continuation([3], 3)
