"""Models that are started when they are first asked for: who waits, for whom, and what a failed start means."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol, TypeVar

from specserve.engine.api import ModelInfo
from specserve.engine.errors import EngineDeadError
from specserve.generated.errors import EngineDead

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 300.0
"""After a start that failed, requests are refused for so long before one of them tries again; each time for longer."""
NOT_STARTED, LOADING, FAILED = "not_started", "loading", "failed"


class Problem(NamedTuple):
    """Two lines for people."""

    cause: str
    remedy: str


class OnDemand(Protocol):
    """A model that is not there yet."""

    @property
    def preview(self) -> ModelInfo:
        """What its files say of it."""

    @property
    def stage(self) -> str:
        """NOT_STARTED, LOADING, or FAILED until the next try."""

    async def start(self) -> None:
        """Wait until the model is loaded. Raises EngineDead."""


class NotStarted(Exception):
    """A request needs a model that is not there yet. Nothing has been done for the request."""

    def __init__(self, model: OnDemand) -> None:
        super().__init__("the model is started when it is first asked for")
        self.model = model


async def with_models(answer: Callable[[], Awaitable[T]]) -> T:
    """The result of `answer`, which is asked again when the model is there that it needs. Raises EngineDead."""
    while True:
        try:
            return await answer()
        except NotStarted as missing:
            model = missing.model
        await model.start()


class FirstUse:
    """One such model. Implements `OnDemand`.

    All who ask for it wait for the same start, which goes on when they leave.
    """

    def __init__(
        self,
        name: str,
        preview: ModelInfo,
        load: Callable[[], Awaitable[Problem | None]],
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`load` returns what went wrong, if anything did. `clock` counts seconds: the event loop's by default."""
        self._name = name
        self._preview = preview
        self._load = load
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._starting: asyncio.Task[Problem | None] | None = None
        self._problem: Problem | None = None
        self._pause_s = 0.0
        self._tries_again_at = 0.0

    @property
    def preview(self) -> ModelInfo:
        return self._preview

    @property
    def stage(self) -> str:
        if self._starting is not None:
            return LOADING
        return NOT_STARTED if self._problem is None else FAILED

    async def start(self) -> None:
        if self._starting is None:
            if self._problem is not None and self._clock() < self._tries_again_at:
                raise self._refusal(self._problem)
            self._starting = asyncio.create_task(self._try())
        starting = self._starting
        await asyncio.wait([starting])  # leaving cancels the waiting only
        if starting.cancelled():
            raise EngineDeadError("the server is stopping")
        if (problem := starting.result()) is not None:
            raise self._refusal(problem)

    async def stop(self) -> None:
        """Give a start under way up; those who wait for it are told."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])

    async def _try(self) -> Problem | None:
        try:
            self._problem = await self._load()
        finally:
            self._starting = None
        if self._problem is None:
            self._pause_s = 0.0
        else:
            self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            self._tries_again_at = self._clock() + self._pause_s
        return self._problem

    def _refusal(self, problem: Problem) -> EngineDead:
        left_s = max(1, math.ceil(self._tries_again_at - self._clock()))
        return EngineDead(
            f"the model {self._name} could not be started: {problem.cause[:1000]}; {problem.remedy}; "
            f"a request in {left_s} s tries again",
            headers={"Retry-After": str(left_s)},
        )
