"""The further API processes of `--api-server-count`, seen from the first: forked, told what happens, and watched.

They are forked before anything heavy is imported and before there is any thread. Each has a listening socket of its own
for the same port, among which the kernel spreads connections; a connection with every engine process; one with the
response store, which the first process holds; and one on which the first says how the server's life goes on:

    to it      serve (all are ready) · drain (take nothing new) · cut (end what runs) · the end of the file (end)
    from it    ready · idle (of a drain: nothing runs any more) · hung N (the engine of model N makes no progress)
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from specserve.engine.start import die_with_parent
from specserve.handlers.flags import UsageError
from specserve.handlers.settings import ServerSettings

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""For a process whose end has been asked for."""


def settled(settings: ServerSettings) -> ServerSettings:
    """The settings as several API processes can keep them. Raises UsageError for what only one can."""
    if settings.api_server_count == 1:
        return settings
    if settings.max_requests_per_client is not None:
        raise UsageError(
            f"--max-requests-per-client counts in one process, and --api-server-count asks for "
            f"{settings.api_server_count}",
            "leave one of the two out",
        )
    if settings.lora_dir:
        raise UsageError(
            "--lora-dir lets adapters be loaded while the server runs, and only the process that was asked would know "
            f"of them; --api-server-count asks for {settings.api_server_count} processes",
            "leave one of the two out; --lora-modules, loaded at the start, go with several",
        )
    changes: dict[str, Any] = {"max_background_responses": 0}
    if late := [model.model_names[0] for model in settings.served if model.load_on_first_use]:
        notice = f"with --api-server-count, models are loaded at the start: {', '.join(late)} too"
        early = tuple(dataclasses.replace(model, load_on_first_use=False) for model in settings.served)
        changes |= {"notices": (*settings.notices, notice), "load_on_first_use": False}
        changes["models"] = early if len(early) > 1 else ()
    return dataclasses.replace(settings, **changes)


class Place(NamedTuple):
    """What one further API process is given. `engines` are its connections with the engines, one for each model."""

    listener: socket.socket
    control: socket.socket
    store: socket.socket
    engines: tuple[socket.socket, ...]

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        return (self.listener, self.control, self.store, *self.engines)


class ApiProcess:
    """One of them. `engines` are for the engine processes; `store` is for the response store."""

    def __init__(self, process_id: int, place: Place) -> None:
        self.process_id = process_id
        self.store = place.store
        self.engines = place.engines
        self._control = place.control
        self._listener = place.listener
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None
        self._ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._gone = asyncio.Event()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """What no other process may hold open, because its closing tells something."""
        return (self.store, *self.engines, self._control, self._listener)

    async def watch(self, on_hung: Callable[[int], None]) -> None:
        """Listen to it, until it is gone."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._control)
        while line := await self._reader.readline():
            match line.decode().split():
                case ["ready"]:
                    self._ready.set()
                case ["idle"]:
                    self._idle.set()
                case ["hung", number]:
                    on_hung(int(number))
        self._gone.set()

    def tell(self, word: str) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(f"{word}\n".encode())

    async def wait_ready(self) -> None:
        await first_of(self._ready, self._gone)

    async def wait_idle(self) -> None:
        await first_of(self._idle, self._gone)

    async def wait_gone(self) -> None:
        await self._gone.wait()

    def kill(self) -> None:
        """End it at once."""
        os.kill(self.process_id, signal.SIGKILL)

    async def end(self) -> None:
        """Let it end, and kill it if it does not."""
        if self._writer is not None:
            self._writer.close()
        else:
            self._control.close()
        try:
            await asyncio.wait_for(asyncio.to_thread(os.waitpid, self.process_id, 0), PATIENCE_S)
        except TimeoutError:
            self.kill()
        except ChildProcessError:
            return  # somebody else has waited for it


async def first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def fork(
    listeners: Sequence[socket.socket], num_models: int, serve: Callable[[Place], int], own: socket.socket
) -> list[ApiProcess]:
    """One process for each of `listeners`, in which `serve` runs and whose exit code it returns.

    `own` is the first process' listening socket.
    """
    processes: list[ApiProcess] = []
    for listener in listeners:
        pairs = [socket.socketpair() for _ in range(num_models + 2)]
        ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        process_id = os.fork()
        if process_id == 0:
            others = [one for process in processes for one in process.sockets]
            for one in (own, *ours, *others, *(other for other in listeners if other is not listener)):
                with contextlib.suppress(OSError):
                    one.close()
            run_and_exit(Place(listener, theirs[0], theirs[1], tuple(theirs[2:])), serve)
        for one in theirs:
            one.close()
        processes.append(ApiProcess(process_id, Place(listener, ours[0], ours[1], tuple(ours[2:]))))
    for listener in listeners:
        listener.close()
    return processes


def run_and_exit(place: Place, serve: Callable[[Place], int]) -> None:
    """Nothing of what the first process does at its end may happen here."""
    code = 1
    try:
        die_with_parent()
        code = serve(place)
    except Exception:
        logger.exception("an API process cannot go on")
    finally:
        sys.stderr.flush()
        os._exit(code)
