"""The engine processes of one server, one for each model: started, watched and stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

from specserve.engine.child import Child
from specserve.engine.client import EngineClient
from specserve.engine.errors import EngineDeadError, StartupError
from specserve.engine.preview import preview
from specserve.handlers.first_use import FAILED, NOT_STARTED, FirstUse, Problem
from specserve.handlers.settings import ServerSettings

logger = logging.getLogger(__name__)

CRASHED = 10
GPU_DRIVER = Path("/dev/nvidiactl")


class Watcher(Protocol):
    """Who is told what becomes of the models."""

    def note_progress(self, phase: str, progress: float) -> None:
        """The slowest of those that load: what it does, and how far all are, from 0 to 1."""

    def note_loaded(self, member: Member) -> None: ...

    def note_offered(self, member: Member) -> None:
        """A model is there for the asking: its `first_use` starts it."""

    def note_lost(self, member: Member, others: Sequence[str]) -> None:
        """A model could not be loaded or its engine ended; `others` are the names of those with no problem."""


class Member:
    """One model and its engine process. `problem` tells why it does not work; None while nothing is wrong.

    `first_use` starts it when it is asked for; None for models that are loaded at the start.
    """

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
        self.first_use: FirstUse | None = None
        self.config = settings.engine_config(num_engines)
        self._on_progress = on_progress
        self.client = EngineClient(self.config, self._advance, child)

    @property
    def is_late(self) -> bool:
        return self.settings.load_on_first_use

    @property
    def has_been_started(self) -> bool:
        return self.is_loaded or self.problem is not None

    @property
    def is_alive(self) -> bool:
        """Whether requests are answered, or will be soon. A model that waits for its first request does not count."""
        if self.first_use is not None and not self.is_loaded:
            return self.first_use.stage not in (NOT_STARTED, FAILED)
        return self.problem is None and not self.client.has_died

    async def start_again(self) -> Problem | None:
        """Load, also after a load that failed; returns what went wrong."""
        if self.client.was_started:
            self.client = EngineClient(self.config, self._advance)
        await self.start()
        problem, self.problem = self.problem, None
        return problem

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
    """All models of a server. It lives as long as one of them works; none that worked is started again."""

    def __init__(
        self, models: Sequence[ServerSettings], watcher: Watcher, children: Sequence[Child | None] = ()
    ) -> None:
        """`children` are processes for the models in their order that have been started already."""
        self._watcher = watcher
        num_early = sum(not settings.load_on_first_use for settings in models)
        # Memory of a GPU has to be left for those that come later; cores and pages can be shared.
        share = len(models) if uses_gpu(models) or not num_early else num_early
        self.members = [
            Member(settings, len(models) if settings.load_on_first_use else share, self._note_progress, child)
            for settings, child in zip_longest(models, children)
        ]
        self._ended = asyncio.Event()
        self._watches: list[asyncio.Task[None]] = []
        self._is_stopping = False
        self.last_lost = self.members[0]
        """The one that failed last."""

    @property
    def working(self) -> list[Member]:
        return [member for member in self.members if member.is_loaded and not member.client.has_died]

    @property
    def has_died(self) -> bool:
        """Whether no engine is left of those that were started. True before any open request hears of it."""
        return any(member.has_been_started for member in self.members) and not any(
            member.is_alive for member in self.members
        )

    @property
    def can_serve(self) -> bool:
        """Whether a model works or, where none is loaded at the start, waits for its first request."""
        if any(member.is_loaded for member in self.members):
            return True
        return all(member.is_late for member in self.members) and any(member.first_use for member in self.members)

    async def start(self) -> None:
        """Load all models but those that wait for their first request. What cannot be loaded is told to the watcher.

        Side by side on CPUs, where each may use its part of the cores; one after the other where a GPU is, of whose
        memory each takes a part of what the one before has left.
        """
        early = [member for member in self.members if not member.is_late]
        await asyncio.gather(*(self._offer(member) for member in self.members if member.is_late))
        if uses_gpu([member.settings for member in early]):
            for member in early:
                if not self._is_stopping:
                    await self._start(member)
        else:
            await asyncio.gather(*(self._start(member) for member in early))

    async def _offer(self, member: Member) -> None:
        """Have a model started by the first request for it. Its files are read now."""

        async def load() -> Problem | None:
            logger.info("the model %s has been asked for, and is loaded", member.name)
            problem = await member.start_again()
            if problem is None:
                self._take(member)
            elif not self._is_stopping:
                logger.warning("the model %s could not be started: %s; %s", member.name, *problem)
                asyncio.get_running_loop().call_soon(self._note_end)  # when this start counts no more
            return problem

        try:
            info = await asyncio.to_thread(preview, member.config.model)
        except StartupError as error:
            member.problem, member.exit_code = Problem(error.cause, error.remedy), error.exit_code
            self._lose(member)
            return
        member.first_use = FirstUse(member.name, info, load)
        self._watcher.note_offered(member)

    async def _start(self, member: Member) -> None:
        await member.start()
        if member.is_loaded:
            self._take(member)
        elif not self._is_stopping:
            self._lose(member)

    def _take(self, member: Member) -> None:
        self._watcher.note_loaded(member)
        self._watches.append(asyncio.create_task(self._watch(member)))

    async def wait_dead(self) -> None:
        """Wait until none of the models that were loaded works any more."""
        await self._ended.wait()

    def _note_end(self) -> None:
        if self.has_died:
            self._ended.set()

    async def _watch(self, member: Member) -> None:
        await member.wait_dead()
        self._lose(member)

    def _lose(self, member: Member) -> None:
        self.last_lost = member
        others = [other for other in self.members if other.problem is None]
        self._watcher.note_lost(member, [other.name for other in others])
        self._note_end()

    def _note_progress(self, member: Member, phase: str) -> None:
        if member.is_late:
            return  # the server is ready meanwhile
        early = [one for one in self.members if not one.is_late]
        slowest = min(early, key=lambda one: one.progress)
        if len(early) == 1:
            self._watcher.note_progress(phase, member.progress)
        elif member is slowest:
            done = sum(one.progress for one in early) / len(early)
            self._watcher.note_progress(f"{member.name}: {phase}", done)

    async def stop(self, reason: str = "the server is stopping") -> None:
        self._is_stopping = True
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*(member.first_use.stop() for member in self.members if member.first_use is not None))
        await asyncio.gather(*(member.client.stop(reason) for member in self.members))

    def kill(self) -> None:
        """End all processes at once, without a word to anybody."""
        for member in self.members:
            member.client.kill()


def uses_gpu(models: Sequence[ServerSettings]) -> bool:
    return GPU_DRIVER.exists() and any(settings.device != "cpu" for settings in models)
