"""The server's life only moves forward."""

from __future__ import annotations

import asyncio
from typing import cast

from specserve.engine.api import Engine
from specserve.handlers.lifecycle import Lifecycle

ENGINE = cast(Engine, object())


def test_loading_reports_a_phase_and_a_progress_that_never_falls() -> None:
    life = Lifecycle()
    assert (life.state, life.progress, life.engine) == ("loading", None, None)
    life.advance("reading weights", 0.5)
    life.advance("allocating", 0.4)
    assert (life.phase, life.progress) == ("allocating", 0.5)
    life.advance("done", 1.7)
    assert life.progress == 1.0


def test_a_ready_server_has_an_engine_and_no_progress() -> None:
    life = Lifecycle()
    life.advance("reading weights", 0.5)
    life.become_ready(ENGINE)
    assert (life.state, life.progress, life.engine) == ("ready", None, ENGINE)
    life.advance("late news", 0.1)
    assert life.phase == "ready"


def test_a_draining_server_keeps_its_engine_and_never_gets_ready_again() -> None:
    life = Lifecycle()
    life.become_ready(ENGINE)
    life.drain()
    life.become_ready(ENGINE)
    assert (life.state, life.engine) == ("draining", ENGINE)


def test_a_model_that_is_ready_after_the_drain_began_is_not_served() -> None:
    life = Lifecycle()
    life.drain()
    life.become_ready(ENGINE)
    assert (life.state, life.engine) == ("draining", None)


def test_a_failed_server_stays_failed_and_says_why() -> None:
    life = Lifecycle()
    life.become_ready(ENGINE)
    life.fail("the engine process was ended by SIGKILL")
    life.drain()
    assert (life.state, life.phase) == ("failed", "the engine process was ended by SIGKILL")


async def test_work_that_nobody_listens_to_counts_until_it_is_done() -> None:
    life, may_end = Lifecycle(), asyncio.Event()

    async def work() -> None:
        await may_end.wait()

    task = asyncio.create_task(work())
    life.wait_for(task)
    assert life.unheard == {task}
    may_end.set()
    await task
    assert life.unheard == set()
