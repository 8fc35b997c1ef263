"""The engine processes of one server, one for each model: started, watched and stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple, Protocol

from specserve.engine.child import Child
from specserve.engine.client import EngineClient
from specserve.engine.errors import EngineDeadError, StartupError
from specserve.handlers.settings import ServerSettings

logger = logging.getLogger(__name__)

CRASHED = 10
GPU_DRIVER = Path("/dev/nvidiactl")


class Problem(NamedTuple):
    """Two lines for people."""

    cause: str
    remedy: str


class Watcher(Protocol):
    """Who is told what becomes of the models."""

    def note_progress(self, phase: str, progress: float) -> None:
        """The slowest of those that load: what it does, and how far all are, from 0 to 1."""

    def note_loaded(self, member: Member) -> None: ...

    def note_lost(self, member: Member, others: Sequence[str]) -> None:
        """A model could not be loaded or its engine ended; `others` are the names of those with no problem."""


class Member:
    """One model and its engine process. `problem` tells why it does not work; None while nothing is wrong."""

    def __init__(
        self,
        settings: ServerSettings,
        num_engines: int,
        on_progress: Callable[[Member, str], None],
        child: Child | None = None,
    ) -> None:
        self.settings = settings
        self.name = settings.model_names[0]
        self.progress = 0.0
        self.is_loaded = False
        self.problem: Problem | None = None
        self.exit_code = CRASHED
        self._on_progress = on_progress
        self.client = EngineClient(settings.engine_config(num_engines), self._advance, child)

    def _advance(self, phase: str, progress: float) -> None:
        self.progress = max(self.progress, progress)
        self._on_progress(self, phase)

    async def start(self) -> None:
        """Load. What goes wrong is in `problem` and `exit_code` afterwards."""
        try:
            await self.client.start()
            self.is_loaded = True
        except StartupError as error:
            self.problem, self.exit_code = Problem(error.cause, error.remedy), error.exit_code
        except EngineDeadError as error:
            self.problem = Problem(str(error), "the machine may have too little memory; --log-level debug tells more")
        except Exception as error:
            logger.exception("the model %s could not be started", self.name)
            self.problem = Problem(f"start failed: {type(error).__name__}: {error}", "the log above has the details")
        self.progress = 1.0

    async def wait_dead(self) -> None:
        """Wait until a loaded engine has ended by itself; then `problem` and `exit_code` tell how."""
        self.exit_code = await self.client.wait_dead()
        try:
            self.client.check_health()
            reason = "the engine process ended"
        except EngineDeadError as error:
            reason = str(error)
        self.problem = Problem(reason, "open requests were ended with an error; start the server again")


class Fleet:
    """All models of a server. It lives as long as one of them works; none is started a second time."""

    def __init__(
        self, models: Sequence[ServerSettings], watcher: Watcher, children: Sequence[Child | None] = ()
    ) -> None:
        """`children` are processes for the models in their order that have been started already."""
        self._watcher = watcher
        self.members = [
            Member(settings, len(models), self._note_progress, child)
            for settings, child in zip_longest(models, children)
        ]
        self._watches: list[asyncio.Task[None]] = []
        self._is_stopping = False
        self.last_lost = self.members[0]
        """The one that failed last."""

    @property
    def working(self) -> list[Member]:
        return [member for member in self.members if member.is_loaded and not member.client.has_died]

    @property
    def has_died(self) -> bool:
        """Whether all engines ended by themselves. True before any open request hears of it."""
        return all(member.problem is not None or member.client.has_died for member in self.members)

    @property
    def _takes_turns(self) -> bool:
        return GPU_DRIVER.exists() and any(member.settings.device != "cpu" for member in self.members)

    async def start(self) -> None:
        """Load all models. Those that cannot be loaded are told to the watcher.

        Side by side on CPUs, where each may use its part of the cores; one after the other where a GPU is, of whose
        memory each takes a part of what the one before has left.
        """
        if self._takes_turns:
            for member in self.members:
                if not self._is_stopping:
                    await self._start(member)
        else:
            await asyncio.gather(*(self._start(member) for member in self.members))

    async def _start(self, member: Member) -> None:
        await member.start()
        if member.is_loaded:
            self._watcher.note_loaded(member)
            self._watches.append(asyncio.create_task(self._watch(member)))
        elif not self._is_stopping:
            self._lose(member)

    async def wait_dead(self) -> None:
        """Wait until none of the models that were loaded works any more."""
        await asyncio.gather(*self._watches)

    async def _watch(self, member: Member) -> None:
        await member.wait_dead()
        self._lose(member)

    def _lose(self, member: Member) -> None:
        self.last_lost = member
        others = [other for other in self.members if other.problem is None]
        self._watcher.note_lost(member, [other.name for other in others])

    def _note_progress(self, member: Member, phase: str) -> None:
        slowest = min(self.members, key=lambda one: one.progress)
        if len(self.members) == 1:
            self._watcher.note_progress(phase, member.progress)
        elif member is slowest:
            done = sum(one.progress for one in self.members) / len(self.members)
            self._watcher.note_progress(f"{member.name}: {phase}", done)

    async def stop(self, reason: str = "the server is stopping") -> None:
        self._is_stopping = True
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*(member.client.stop(reason) for member in self.members))

    def kill(self) -> None:
        """End all processes at once, without a word to anybody."""
        for member in self.members:
            member.client.kill()
