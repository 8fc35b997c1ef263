"""The engine process' loop and channel over a simulated runner, in this process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from simulated_runner import SimulatedRunner, continuation

from specserve.engine.api import GenerationRequest
from specserve.engine.batch import ScheduledBatch, StepOutput
from specserve.engine.channel import CRASHED, Channel
from specserve.engine.core import EngineCore
from specserve.engine.errors import InsufficientMemoryError, ModelLoadError
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.messages import (
    Abort,
    Add,
    Command,
    Event,
    Heartbeat,
    Step,
    Stop,
    decode_event,
    encode_frame,
    read_frame,
)
from specserve.engine.params import SamplingParams
from specserve.engine.process import as_startup_error, run
from specserve.engine.scheduler import Scheduler
from specserve.engine.stats import EngineStats

BLOCK_SIZE = 4


class GatedRunner(SimulatedRunner):
    """Computes a step only when the test lets it."""

    def __init__(self) -> None:
        super().__init__(BLOCK_SIZE)
        self.gate = threading.Semaphore(0)
        self.is_gated = False
        self.num_begun = 0

    def execute(self, batch: ScheduledBatch) -> StepOutput:
        self.num_begun += 1
        if self.is_gated:
            assert self.gate.acquire(timeout=20)
        return super().execute(batch)


class Engine:
    """The loop in a thread, and the API process' end of the channel."""

    def __init__(self, num_blocks: int = 64) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.settimeout(20)
        scheduler = Scheduler(
            KVCacheManager(num_blocks, BLOCK_SIZE), max_num_seqs=8, max_num_batched_tokens=32, max_model_len=4096
        )
        self.runner = GatedRunner()
        self.core = EngineCore(scheduler, self.runner)
        self.ends: list[int] = []
        self.channel = Channel(self.theirs, end_process=self.ends.append)
        self.channel.start_reading()
        self.loop = threading.Thread(target=run, args=(self.core, self.channel), daemon=True)

    def send(self, *commands: Command) -> None:
        """Before the loop runs, returns when they have arrived: it then sees all of them at once."""
        is_running = self.loop.is_alive()
        self.ours.sendall(b"".join(encode_frame(command) for command in commands))
        if not is_running:
            wait_until(lambda: self.channel._commands.qsize() == len(commands))

    def event(self) -> Event:
        return decode_event(read_frame(self.ours))

    def steps(self) -> Iterator[Step]:
        while True:
            event = self.event()
            if isinstance(event, Step):
                yield event


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Commands sent before `loop.start` have arrived together when the loop first looks."""
    made = Engine(num_blocks=2000)
    yield made
    made.runner.is_gated = False
    made.runner.gate.release(10_000)
    made.send(Stop())
    if made.loop.ident is not None:
        made.loop.join(20)
    assert not made.loop.is_alive()
    assert made.ends == []
    made.ours.close()
    wait_until(lambda: made.ends == [0])
    made.theirs.close()


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


def wanted(request_id: str, prompt: list[int], max_tokens: int = 6) -> GenerationRequest:
    return GenerationRequest(
        request_id=request_id, prompt_token_ids=prompt, params=SamplingParams(max_tokens=max_tokens)
    )


def test_one_event_per_step_carries_every_requests_progress(engine: Engine) -> None:
    prompts = {"a": [1, 2, 3], "b": [4, 5], "c": [6]}
    engine.send(Add([wanted(name, prompt) for name, prompt in prompts.items()]))
    engine.loop.start()
    found: dict[str, list[int]] = {name: [] for name in prompts}
    steps = engine.steps()
    for number in range(1, 7):
        step = next(steps)
        assert step.stats.num_steps == number
        assert {gained.request_id for gained in step.progress} == set(prompts)
        for gained in step.progress:
            found[gained.request_id] += gained.token_ids
    assert found == {name: continuation(prompt, 6) for name, prompt in prompts.items()}


def test_an_abort_frees_the_blocks_within_two_steps(engine: Engine) -> None:
    engine.runner.is_gated = True
    engine.send(Add([wanted("stays", [1, 2, 3], 200), wanted("leaves", list(range(1, 29)), 2000)]))
    engine.loop.start()
    steps = engine.steps()
    engine.runner.gate.release(2)
    assert [next(steps).stats.num_running for _ in range(2)] == [2, 2]
    wait_until(lambda: engine.runner.num_begun == 3)
    engine.send(Abort(["leaves"]))
    wait_until(lambda: not engine.channel._commands.empty())
    engine.runner.gate.release(2)
    third, fourth = next(steps), next(steps)
    assert (third.stats.num_running, third.stats.num_used_blocks) == (2, 2 + 8)
    assert (fourth.stats.num_running, fourth.stats.num_used_blocks) == (1, 2)
    assert [gained.request_id for gained in fourth.progress] == ["stays"]


def test_an_idle_engine_sends_heartbeats(engine: Engine) -> None:
    engine.loop.start()
    assert engine.event() == Heartbeat(EngineStats(num_blocks=1999))


def test_a_request_that_cannot_run_is_refused_in_words_and_the_others_run(engine: Engine) -> None:
    engine.send(Add([wanted("long", [1] * 4096)]), Add([wanted("fine", [1, 2], 1)]))
    engine.loop.start()
    gained = {gained.request_id: gained for gained in next(engine.steps()).progress}
    assert "4096" in (gained["long"].error or "")
    assert gained["fine"].token_ids == continuation([1, 2], 1)


def test_an_id_in_use_refuses_the_newcomer(engine: Engine) -> None:
    engine.send(Add([wanted("a", [1, 2], 50)]), Add([wanted("a", [3], 1)]))
    engine.loop.start()
    errors = [gained.error for gained in next(engine.steps()).progress if gained.error]
    assert len(errors) == 1
    assert "in use" in errors[0]


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("x"), RuntimeError("can't allocate memory: y")]
)
def test_running_out_of_memory_while_loading_is_told_as_that(error: Exception) -> None:
    found = as_startup_error(error)
    assert isinstance(found, InsufficientMemoryError)
    assert found.exit_code == 5


def test_an_unforeseen_failure_while_loading_is_a_crash_with_its_name() -> None:
    found = as_startup_error(TypeError("surprise"))
    assert (found.exit_code, "TypeError: surprise" in found.cause) == (CRASHED, True)
    known = ModelLoadError("cause", "remedy")
    assert as_startup_error(known) is known
