"""One further API process of `--api-server-count`: answers as the first does, over engines that the first has started.

It decides nothing about the server's life: the first process tells it, see `api_processes`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import uvloop

from specserve.engine.errors import EngineDeadError, StartupError
from specserve.engine.link import HUNG, EngineLink
from specserve.handlers.api_processes import Place
from specserve.handlers.app import create_app
from specserve.handlers.chat.answer_formats import FormatChoice
from specserve.handlers.chat.prompts import Prompts, TemplateOptions
from specserve.handlers.http_server import LAST_WORDS_S, HttpServer
from specserve.handlers.interpreter import API_NICENESS, favour_event_loop, settle_memory
from specserve.handlers.lifecycle import Lifecycle
from specserve.handlers.openai.responses.store_shared import SharedStore
from specserve.handlers.settings import ServerSettings

logger = logging.getLogger(__name__)


class FurtherApi:
    def __init__(self, settings: ServerSettings, place: Place) -> None:
        self._settings = settings
        self._place = place
        self._lifecycle = Lifecycle()
        self._prompts = Prompts(TemplateOptions.of(settings))
        self._formats = FormatChoice.of(settings)
        self._links = [
            EngineLink(model.engine_config(len(settings.served)), self._advance) for model in settings.served
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def run(self) -> int:
        """Answer until the first process wants an end, or is gone."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # they are sent to all; the first process decides
        favour_event_loop()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run())
        return 0

    async def _run(self) -> None:
        reader, self._first = await asyncio.open_unix_connection(sock=self._place.control)
        store = SharedStore(self._place.store)
        engines = asyncio.create_task(self._connect())
        app = create_app(self._lifecycle, self._settings, self._prompts, self._formats, store)
        self._http = HttpServer(app, self._settings)
        serving = asyncio.create_task(self._http.serve([self._place.listener]))
        listening = asyncio.create_task(self._listen(reader))
        try:
            await asyncio.wait((listening, serving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._stop_links("the server is stopping")
            for task in (engines, *self._tasks):
                task.cancel()
            self._http.should_exit = True
            await asyncio.wait((serving,))
            if unheard := self._lifecycle.unheard:
                await asyncio.wait(unheard, timeout=LAST_WORDS_S)
            await store.close()

    # ---- engines -------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        await asyncio.gather(*(self._connect_one(number) for number in range(len(self._links))))
        working = [link for link in self._links if link.is_connected]
        if not working:
            return  # the first process knows, and ends the server
        settle_memory()
        if any(link.model.device.startswith("cpu") for link in working):
            os.nice(API_NICENESS)
        self._say("ready")

    async def _connect_one(self, number: int) -> None:
        link, name = self._links[number], self._settings.served[number].model_names[0]
        try:
            await link.connect(self._place.engines[number])
        except (StartupError, EngineDeadError) as error:
            self._lifecycle.lose(name, str(error))
            return
        self._lifecycle.add(name, link)
        self._tasks.append(asyncio.create_task(self._watch(number, name)))

    async def _watch(self, number: int, name: str) -> None:
        link = self._links[number]
        if await link.wait_dead() == HUNG:
            self._say(f"hung {number}")
        try:
            link.check_health()
        except EngineDeadError as error:
            self._lifecycle.lose(name, str(error))
        if all(other.has_died or not other.is_connected for other in self._links):
            self._lifecycle.fail("the engine process ended")

    def _advance(self, phase: str, progress: float) -> None:
        self._lifecycle.advance(phase, progress)

    async def _stop_links(self, reason: str) -> None:
        await asyncio.gather(*(link.stop(reason) for link in self._links))

    # ---- the first process ---------------------------------------------------------------------------------

    def _say(self, line: str) -> None:
        if not self._first.is_closing():
            self._first.write(f"{line}\n".encode())

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Do what the first process says, until it closes the connection."""
        while line := await reader.readline():
            match line.strip():
                case b"serve":
                    self._lifecycle.become_ready(next(link for link in self._links if link.is_connected))
                case b"drain":
                    self._lifecycle.drain()
                    self._tasks.append(asyncio.create_task(self._drain()))
                case b"cut":
                    await self._stop_links("the server had to stop before this answer was complete")

    async def _drain(self) -> None:
        while running := self._http.running | self._lifecycle.unheard:
            await asyncio.wait(running)
        self._say("idle")
