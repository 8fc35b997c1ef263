"""Who asks for a model that is not there: all wait for one start, and one that failed is tried again later."""

from __future__ import annotations

import asyncio

import pytest
from fake_pooling import embedder

from specserve.generated.errors import EngineDead
from specserve.handlers.first_use import FirstUse, NotStarted, Problem, with_models


class Loading:
    """What starts a model: it waits for `gate`, and fails as often as there are `problems`."""

    def __init__(self, *problems: str) -> None:
        self.problems = list(problems)
        self.num_begun = 0
        self.now = 0.0
        self.gate = asyncio.Event()
        self.model = FirstUse("embed", embedder().model, self.load, lambda: self.now)

    async def load(self) -> Problem | None:
        self.num_begun += 1
        await self.gate.wait()
        return Problem(self.problems.pop(0), "help it") if self.problems else None


async def begun(loading: Loading) -> asyncio.Task[None]:
    task = asyncio.create_task(loading.model.start())
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def test_one_who_leaves_ends_neither_the_start_nor_the_waiting_of_others() -> None:
    loading = Loading()
    first, second = await begun(loading), await begun(loading)
    assert loading.model.stage == "loading"
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    loading.gate.set()
    await second
    assert (loading.num_begun, loading.model.stage) == (1, "not_started")


async def test_a_start_goes_on_though_nobody_waits_for_it_any_more() -> None:
    loading = Loading()
    task = await begun(loading)
    task.cancel()
    await asyncio.wait([task])
    assert loading.model.stage == "loading"
    loading.gate.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert loading.model.stage != "loading"


async def test_after_a_failure_requests_are_refused_at_once_until_a_pause_is_over_that_grows() -> None:
    loading = Loading("no memory", "no memory", "still none")
    loading.gate.set()
    for pause, num_begun in ((10, 1), (20, 2), (40, 3)):
        with pytest.raises(EngineDead) as refusal:
            await loading.model.start()
        assert refusal.value.headers["Retry-After"] == str(pause)
        assert (loading.num_begun, loading.model.stage) == (num_begun, "failed")
        loading.now += pause - 0.5
        with pytest.raises(EngineDead, match="help it; a request in 1 s tries again"):
            await loading.model.start()
        assert loading.num_begun == num_begun
        loading.now += 0.5
    await loading.model.start()
    assert (loading.num_begun, loading.model.stage) == (4, "not_started")


async def test_all_who_waited_are_told_of_a_failure() -> None:
    loading = Loading("the file is cut off")
    tasks = [await begun(loading) for _ in range(3)]
    loading.gate.set()
    for told in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(told, EngineDead)
        assert "the model embed could not be started: the file is cut off" in told.message
    assert loading.num_begun == 1


async def test_a_request_is_answered_again_for_each_model_that_it_lacks() -> None:
    first, second = Loading(), Loading()
    first.gate.set()
    second.gate.set()
    lacking = [first, second]

    async def answer() -> str:
        if lacking:
            raise NotStarted(lacking.pop(0).model)
        return "done"

    assert await with_models(answer) == "done"
    assert (first.num_begun, second.num_begun) == (1, 1)
