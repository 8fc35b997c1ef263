"""The server's life: loading → ready → draining, or failed. The single source of health, 503 answers and exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from specserve.engine.api import Engine
from specserve.handlers.context import State
from specserve.handlers.first_use import OnDemand

FOLLOWERS: dict[State, tuple[State, ...]] = {
    "loading": ("ready", "draining", "failed"),
    "ready": ("draining", "failed"),
    "draining": ("failed",),
    "failed": (),
}


class Lifecycle:
    """Written by `server`, read by everything that answers. Implements `context.Readiness`.

    `engine` is there from ready on, also while it is draining or has failed: answers under way still ask it.
    """

    def __init__(self) -> None:
        self._state: State = "loading"
        self._phase = "starting the engine"
        self._progress: float | None = None
        self._engine: Engine | None = None
        self._engines: dict[str, Engine] = {}
        self._failures: dict[str, str] = {}
        self._on_demand: dict[str, OnDemand] = {}
        self._on_drain: list[Callable[[], None]] = []
        self._unheard: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> State:
        return self._state

    @property
    def phase(self) -> str:
        """What happens now or, in state failed, why."""
        return self._phase

    @property
    def progress(self) -> float | None:
        """From 0 to 1 while loading, else None."""
        return self._progress if self._state == "loading" else None

    @property
    def engine(self) -> Engine | None:
        """Of several models, the first that works; None also while all of them wait for their first request."""
        return self._engine or next(iter(self._engines.values()), None)

    def engine_of(self, name: str) -> Engine | None:
        """None while the model loads, and when it could not be loaded."""
        return self._engines.get(name)

    def failure_of(self, name: str) -> str | None:
        """Why this model does not work, though others may."""
        return self._failures.get(name)

    def on_demand(self, name: str) -> OnDemand | None:
        """Who starts this model when it is first asked for; None where it is loaded at the start."""
        return self._on_demand.get(name)

    def offer(self, name: str, model: OnDemand) -> None:
        """One of several models waits for its first request."""
        self._on_demand[name] = model

    def add(self, name: str, engine: Engine) -> None:
        """One of several models is loaded."""
        self._engines[name] = engine

    def lose(self, name: str, reason: str) -> None:
        """One of several models could not be loaded, or its engine ended."""
        self._failures[name] = reason

    def advance(self, phase: str, progress: float) -> None:
        """Loading goes on. The bar never runs back."""
        if self._state == "loading":
            self._phase = phase
            self._progress = max(self._progress or 0.0, min(progress, 1.0))

    def become_ready(self, engine: Engine | None) -> None:
        """`engine` is None where all models wait for their first request."""
        if self._enter("ready", "ready"):
            self._engine = engine

    def drain(self) -> None:
        """Nothing new from now on; what runs may finish."""
        if self._enter("draining", "shutting down"):
            for call in self._on_drain:
                call()

    def when_draining(self, call: Callable[[], None]) -> None:
        """`call` is called once, when the drain begins."""
        self._on_drain.append(call)

    def wait_for(self, work: asyncio.Task[None]) -> None:
        """A drain waits for `work` as it does for open requests."""
        self._unheard.add(work)
        work.add_done_callback(self._unheard.discard)

    @property
    def unheard(self) -> set[asyncio.Task[None]]:
        """Work under way that no open request waits for."""
        return set(self._unheard)

    def fail(self, reason: str) -> None:
        self._enter("failed", reason)

    def _enter(self, state: State, phase: str) -> bool:
        """False when the server has gone too far for that: a drain is not undone by a model that becomes ready."""
        if state not in FOLLOWERS[self._state]:
            return False
        self._state, self._phase = state, phase
        return True
