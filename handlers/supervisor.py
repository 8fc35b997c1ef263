"""Runs the server: the engine processes, the HTTP server, the signals, and the one way out with an exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

import uvloop
from starlette.types import ASGIApp

from specserve.engine.child import Child
from specserve.handlers.api_processes import ApiProcess
from specserve.handlers.chat.answer_formats import FormatChoice
from specserve.handlers.chat.prompts import Prompts, TemplateOptions
from specserve.handlers.console import Console, Shown
from specserve.handlers.fleet import CRASHED, Fleet, Member
from specserve.handlers.http_server import LAST_WORDS_S, HttpServer
from specserve.handlers.interpreter import API_NICENESS, favour_event_loop, settle_memory
from specserve.handlers.lifecycle import Lifecycle
from specserve.handlers.openai.responses.store import MemoryStore, ResponseStore, StoreLimits
from specserve.handlers.openai.responses.store_shared import StoreService
from specserve.handlers.openai.responses.store_sqlite import open_store
from specserve.handlers.settings import ServerSettings

logger = logging.getLogger(__name__)

DRAIN_EXCEEDED = 12
SWEEP_S = 60
RED_HEALTH_S = 1.0
"""A dead engine is reported for so long before the port closes."""

AppFactory = Callable[[Lifecycle, ServerSettings, Prompts, FormatChoice, ResponseStore], ASGIApp]


def response_store(settings: ServerSettings) -> ResponseStore:
    """Where responses are kept. Raises UsageError."""
    limits = StoreLimits(
        entries=settings.responses_store_entries,
        num_bytes=settings.responses_store_bytes,
        age_s=settings.responses_store_age or None,
    )
    if settings.responses_store_path is None:
        return MemoryStore(limits)
    return open_store(Path(settings.responses_store_path).expanduser(), limits)


class Supervisor:
    """One server from a bound port to its exit code."""

    def __init__(
        self,
        settings: ServerSettings,
        listener: socket.socket,
        create_app: AppFactory,
        children: Sequence[Child | None] = (),
        others: Sequence[ApiProcess] = (),
    ) -> None:
        """`children`: see `Fleet`; `others` answer beside this process.

        Raises UsageError for formats of answers that nobody knows, and for a store that cannot be opened.
        """
        self._settings = settings
        self._listener = listener
        self._create_app = create_app
        self._lifecycle = Lifecycle()
        self._prompts = Prompts(TemplateOptions.of(settings))
        self._formats = FormatChoice.of(settings)
        self._store = response_store(settings)
        self._console = Console()
        self._fleet = Fleet(settings.served, self, children)
        self._began = time.monotonic()
        self._drain: asyncio.Task[None] | None = None
        self._others = others
        self._background: set[asyncio.Task[None]] = set()
        self._yields = False

    def run(self) -> int:
        """Serve until a signal or a failure; returns the exit code."""
        favour_event_loop()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._run())

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        self._exit_code: asyncio.Future[int] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        engine = asyncio.create_task(self._run_engines())
        for other in self._others:
            self._begin(self._watch(other))
            self._begin(StoreService(self._store, other.store).run())
        await asyncio.sleep(0)  # the engine process loads while this one imports what answers
        app = self._create_app(self._lifecycle, self._settings, self._prompts, self._formats, self._store)
        self._http = HttpServer(app, self._settings)
        serving = asyncio.create_task(self._http.serve([self._listener]))
        sweeping = asyncio.create_task(self._sweep())
        try:
            await asyncio.wait((self._exit_code, serving), return_when=asyncio.FIRST_COMPLETED)
            if not self._exit_code.done():
                serving.result()  # raises what ended it
                raise RuntimeError("the HTTP server ended by itself")
            code = self._exit_code.result()
        finally:
            await asyncio.gather(*(other.end() for other in self._others))
            await self._fleet.stop()
            engine.cancel()
            for task in self._background:
                task.cancel()
            sweeping.cancel()
            self._http.should_exit = True
            await asyncio.wait((serving, engine))
            if unheard := self._lifecycle.unheard:
                await asyncio.wait(unheard, timeout=LAST_WORDS_S)
            await self._store.close()
            self._console.end_bar()
        return code

    async def _sweep(self) -> None:
        """Responses that are too old go, whether anybody asks for one or not."""
        while True:
            await asyncio.sleep(SWEEP_S)
            await self._store.expire()

    # ---- other API processes -------------------------------------------------------------------------------

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _watch(self, other: ApiProcess) -> None:
        """Without one of them, a part of the clients would never hear an answer."""
        await other.watch(lambda number: self._begin(self._fleet.members[number].client.declare_hung()))
        self._fail(
            f"an API process (process id {other.process_id}) ended by itself",
            "the log above may tell why; start the server again",
            CRASHED,
        )

    # ---- engine --------------------------------------------------------------------------------------------

    async def _run_engines(self) -> None:
        fleet = self._fleet
        await fleet.start()
        if not fleet.can_serve:
            if (problem := fleet.last_lost.problem) is not None:
                self._fail(problem.cause, problem.remedy, fleet.last_lost.exit_code)
            return
        await asyncio.gather(*(other.wait_ready() for other in self._others))
        for other in self._others:
            other.tell("serve")
        self._note_ready()
        await fleet.wait_dead()
        lost = fleet.last_lost
        if lost.problem is not None:
            self._lifecycle.fail(lost.problem.cause)
            self._console.problem(*lost.problem)
        await asyncio.sleep(RED_HEALTH_S)
        self._end(lost.exit_code)

    def note_progress(self, phase: str, progress: float) -> None:
        self._lifecycle.advance(phase, progress)
        self._console.loading(phase, progress)

    def note_loaded(self, member: Member) -> None:
        self._lifecycle.add(member.name, member.client)
        if self._lifecycle.state == "ready":
            self._yield_to(member)
            self._console.line(f"{member.name} is loaded: it has been asked for")

    def note_offered(self, member: Member) -> None:
        if member.first_use is not None:
            self._lifecycle.offer(member.name, member.first_use)

    def note_lost(self, member: Member, others: Sequence[str]) -> None:
        if member.problem is None:
            return
        self._lifecycle.lose(member.name, member.problem.cause)
        if others:  # else the server ends, and says so
            self._console.problem(
                f"the model {member.name} does not work: {member.problem.cause}",
                f"{member.problem.remedy}; until then its requests are refused, and the server goes on with "
                + ", ".join(others),
            )

    def _note_ready(self) -> None:
        if self._lifecycle.state != "loading":
            return
        working = self._fleet.working
        if self._fleet.has_died:
            return  # which `_run_engines` is about to find out
        shown = [self._shown(member) for member in working]  # compiles templates, so that no request waits for it
        waiting = [(one.name, one.first_use.preview) for one in self._fleet.members if one.first_use is not None]
        shown += [Shown(name, preview, is_waiting=True) for name, preview in waiting]
        settle_memory()
        self._lifecycle.become_ready(working[0].client if working else None)
        for member in working:
            self._yield_to(member)
        settings = self._settings
        self._console.ready(
            shown,
            url=settings.url,
            needs_key=bool(settings.api_key),
            is_public=settings.is_public,
            took_s=time.monotonic() - self._began,
        )

    def _yield_to(self, member: Member) -> None:
        if not self._yields and member.client.model.device.startswith("cpu"):
            os.nice(API_NICENESS)
            self._yields = True

    def _shown(self, member: Member) -> Shown:
        model, tokenizer = member.client.model, member.client.tokenizer
        if not model.is_generative:
            return Shown(member.name, model)
        answers = self._formats.remark(self._prompts.source(tokenizer, with_tools=True) or "")
        return Shown(member.name, model, self._prompts.remark(tokenizer), answers)

    def _fail(self, cause: str, remedy: str, exit_code: int) -> None:
        if self._exit_code.done():
            return
        self._lifecycle.fail(cause)
        self._console.problem(cause, remedy)
        self._end(exit_code)

    def _end(self, exit_code: int) -> None:
        if not self._exit_code.done():
            self._exit_code.set_result(exit_code)

    @property
    def _running(self) -> set[asyncio.Task[None]]:
        """Answers under way, also those that no client waits for."""
        return self._http.running | self._lifecycle.unheard

    # ---- signals -------------------------------------------------------------------------------------------

    def _on_signal(self, number: int) -> None:
        if self._drain is None:
            self._drain = asyncio.create_task(self._drain_and_end())
            return
        self._fleet.kill()
        self._console.line("forced to end at once")
        sys.stderr.flush()
        os._exit(128 + number)  # nothing in this process may delay what was asked for twice

    async def _drain_and_end(self) -> None:
        """Refuse what is new, let answers under way finish until the deadline, then cut them."""
        was_ready = self._lifecycle.state == "ready"
        self._lifecycle.drain()
        for other in self._others:
            other.tell("drain")
        if self._fleet.has_died:
            return  # `_run_engines` is about to end the server, with the exit code that tells why
        if not was_ready:
            self._end(0)
            return
        timeout_s = self._settings.shutdown_timeout
        deadline = time.monotonic() + timeout_s
        if running := self._running:
            self._console.line(
                f"shutting down: {len(running)} running answers have {timeout_s:g} s; signal again to end at once"
            )
        idle = {asyncio.create_task(other.wait_idle()) for other in self._others}
        while running := self._running | {one for one in idle if not one.done()}:
            if (left_s := deadline - time.monotonic()) <= 0:
                break
            await asyncio.wait(running, timeout=left_s)
        if self._fleet.has_died:
            return
        if running:
            self._console.line(
                f"{len(running)} answers took longer than --shutdown-timeout ({timeout_s:g} s) and were cut"
            )
            for other in self._others:
                other.tell("cut")
            await self._fleet.stop("the server had to stop before this answer was complete")
            self._end(DRAIN_EXCEEDED)
        else:
            self._end(0)
