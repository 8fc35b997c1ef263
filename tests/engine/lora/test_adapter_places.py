"""Who waits for an adapter's place: nobody for ever, and never those without an adapter."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from specserve.engine.adapter import Adapter
from specserve.engine.batch import SampledToken, ScheduledBatch, StepOutput
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.scheduler import Scheduler

ADAPTERS = [None, *(Adapter(at, f"a{at}") for at in range(1, 5))]


def request_with(at: int, adapter: Adapter | None, length: int = 3, priority: int = 0) -> Request:
    params = SamplingParams(max_tokens=length, ignore_eos=True)
    return Request(f"r{at}", params, [1, 2, 3], 3, adapter=adapter, priority=priority)


def scheduler_of(num_places: int, policy: str = "fcfs", num_blocks: int = 40) -> Scheduler:
    return Scheduler(
        KVCacheManager(num_blocks, 4),
        max_num_seqs=8,
        max_num_batched_tokens=64,
        max_model_len=32,
        policy=policy,
        max_adapters=num_places,
    )


def step(scheduler: Scheduler) -> ScheduledBatch:
    batch = scheduler.schedule()
    sampled = {item.request.request_id: SampledToken(5) for item in batch.requests if item.samples}
    scheduler.update(batch, StepOutput(sampled=sampled))
    return batch


def ids(batch: ScheduledBatch) -> list[str]:
    return [item.request.request_id for item in batch.requests]


def test_who_finds_no_place_waits_and_those_without_adapter_pass() -> None:
    scheduler = scheduler_of(1)
    _, first, second, *_ = ADAPTERS
    made = [request_with(at, adapter) for at, adapter in enumerate((first, second, first, None))]
    scheduler.add(made)
    assert ids(step(scheduler)) == ["r0", "r3"]  # r2 would fit, but then r1 might wait for ever
    stats = scheduler.stats()
    assert (stats.running_adapters, stats.waiting_adapters, stats.max_adapters) == (("a1",), ("a1", "a2"), 1)
    step(scheduler)
    step(scheduler)
    assert ids(step(scheduler)) == ["r1"]


def test_requests_of_one_adapter_share_its_place() -> None:
    scheduler = scheduler_of(1)
    scheduler.add([request_with(at, ADAPTERS[1]) for at in range(3)])
    assert ids(step(scheduler)) == ["r0", "r1", "r2"]


def test_an_urgent_request_takes_the_place_of_another_adapter() -> None:
    scheduler = scheduler_of(1, "priority")
    scheduler.add([request_with(0, ADAPTERS[1], length=9, priority=5)])
    step(scheduler)
    scheduler.add([request_with(1, ADAPTERS[2], priority=1)])
    assert ids(step(scheduler)) == ["r1"]


@settings(max_examples=200, deadline=None)
@given(
    wanted=st.lists(
        st.tuples(st.sampled_from(ADAPTERS), st.integers(1, 6), st.integers(0, 2)), min_size=1, max_size=20
    ),
    num_places=st.integers(1, 3),
    policy=st.sampled_from(["fcfs", "priority"]),
    num_blocks=st.integers(9, 40),
)
def test_everybody_ends_and_no_step_has_more_adapters_than_places(
    wanted: list[tuple[Adapter | None, int, int]], num_places: int, policy: str, num_blocks: int
) -> None:
    scheduler = scheduler_of(num_places, policy, num_blocks)
    scheduler.add([request_with(at, *each) for at, each in enumerate(wanted)])
    for _ in range(1000):
        if not scheduler.has_requests:
            return
        batch = step(scheduler)
        assert batch.requests
        adapters = {item.request.adapter for item in batch.requests} - {None}
        assert len(adapters) <= num_places
    raise AssertionError("somebody waits for ever")
