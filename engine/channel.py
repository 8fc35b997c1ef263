"""The engine process' side of its connections: what API processes ask for comes in, what it leads to goes out.

The first connection is that of the owner, who configures and stops the engine, and without whom it ends. The others
are those of further API processes, which come and go; each hears of its own requests, and how the engine is doing.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import TypeVar

from specserve.engine.api import GenerationRequest, PoolingRequest
from specserve.engine.batch import RequestProgress
from specserve.engine.config import EngineConfig
from specserve.engine.messages import (
    Abort,
    Add,
    Command,
    DropAdapter,
    Event,
    LoadAdapter,
    Loading,
    Pool,
    Step,
    Stop,
    decode_command,
    decode_config,
    encode_frame,
    read_frame,
)
from specserve.engine.prompt_embeds import with_repetition
from specserve.engine.stats import EngineStats

logger = logging.getLogger(__name__)

Asked = TypeVar("Asked", GenerationRequest, PoolingRequest)

CRASHED = 10
OWNER = 0
PROGRESS_INTERVAL_S = 0.05
MAX_UNSENT_BYTES = 16 * 1024 * 1024
STEP_INTERVAL_S = 0.25
"""An API process without progress hears so often at least that there are steps."""
RETRY_S = 0.01
"""How soon a reader who was busy is tried again."""


class Outbox:
    """What one connection is to be sent. Sending does not wait for a reader who is busy for a moment."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.unsent = bytearray()
        self.last_sent = 0.0

    def put(self, event: Event) -> None:
        self.unsent += encode_frame(event)
        self.last_sent = time.monotonic()

    def flush(self, *, wait: bool) -> None:
        """Send all of what is kept, or without waiting as much as the socket takes. Raises OSError."""
        if wait:
            self._connection.sendall(self.unsent)
            self.unsent.clear()
        try:
            while self.unsent:
                del self.unsent[: self._connection.send(self.unsent, socket.MSG_DONTWAIT)]
        except BlockingIOError:
            return

    def close(self) -> None:
        """The reading thread finds the end of the file."""
        self.unsent.clear()
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is closed at the other end


class Channel:
    """All connections. A thread for each reads commands, so that a long load or step never hides a death.

    What a socket does not take is kept, up to MAX_UNSENT_BYTES. Beyond that the engine waits for its owner, because
    nobody reads what it makes, and cuts off a further API process, because the others' requests must not wait for it.
    """

    def __init__(self, *connections: socket.socket, end_process: Callable[[int], object] = os._exit) -> None:
        """`end_process` gets the exit code when the owner is gone, or cannot be understood."""
        self._connections = connections
        self._end_process = end_process
        self._outboxes = {number: Outbox(connection) for number, connection in enumerate(connections)}
        self._commands: SimpleQueue[tuple[int, Command | None]] = SimpleQueue()
        """With the number of the connection; None from one that is closed."""
        self._origins: dict[str, int] = {}
        """Who asked for which open request, where there are several."""
        self._stats = EngineStats()
        self._last_phase, self._last_progress = "", 0.0

    def read_config(self) -> EngineConfig:
        return decode_config(read_frame(self._connections[OWNER]))

    def start_reading(self) -> None:
        for number in self._outboxes:
            threading.Thread(target=self._read, args=(number,), daemon=True, name=f"commands {number}").start()

    def _read(self, number: int) -> None:
        code = 0  # a forward pass under way is of no use to anybody either
        try:
            while True:
                self._commands.put((number, decode_command(read_frame(self._connections[number]))))
        except (EOFError, OSError):
            pass
        except Exception:
            logger.exception("a command cannot be read")
            code = CRASHED  # deaf, it would only seem to work
        if number == OWNER:
            self._end_process(code)
        else:
            self._commands.put((number, None))

    # ---- out -----------------------------------------------------------------------------------------------

    def send(self, event: Event) -> None:
        """To everybody; of a step, to each what became of its requests."""
        if isinstance(event, Step) and len(self._connections) > 1:
            self._send_step(event.progress, event.stats)
        else:
            for outbox in self._outboxes.values():
                outbox.put(event)
        self._flush()

    def _send_step(self, progress: list[RequestProgress], stats: EngineStats) -> None:
        parts: dict[int, list[RequestProgress]] = {number: [] for number in self._outboxes}
        for gained in progress:
            if (origin := self._origins.get(gained.request_id)) is None:
                continue  # who asked for it is gone
            parts[origin].append(gained)
            if gained.finish_reason is not None or gained.error is not None or gained.pooled is not None:
                self._forget([gained.request_id])
        self._stats, now = stats, time.monotonic()
        for number, outbox in self._outboxes.items():
            if parts[number] or now - outbox.last_sent >= STEP_INTERVAL_S:
                outbox.put(Step(parts[number], stats))

    def finish(self) -> None:
        """Send what is kept, to those who read it; nothing follows."""
        for outbox in self._outboxes.values():
            try:
                outbox.flush(wait=True)
            except OSError:
                continue

    def _flush(self) -> None:
        for number, outbox in list(self._outboxes.items()):
            is_full = len(outbox.unsent) > MAX_UNSENT_BYTES
            try:
                outbox.flush(wait=is_full and number == OWNER)
            except OSError:
                if number == OWNER:
                    self._end_process(0)
                continue
            if is_full and number != OWNER and len(outbox.unsent) > MAX_UNSENT_BYTES:
                logger.error("API process %d does not read its answers and is cut off", number)
                outbox.close()

    def progress(self, phase: str, progress: float) -> None:
        now = time.monotonic()
        if phase != self._last_phase or now - self._last_progress >= PROGRESS_INTERVAL_S:
            self._last_phase, self._last_progress = phase, now
            self.send(Loading(phase, progress))

    # ---- in ------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """End the waiting in `commands`: there is news that is no command. From any thread."""
        self._commands.put((OWNER, None))

    def commands(self, wait_s: float) -> list[Command]:
        """All commands that have arrived; waits up to `wait_s` for a first one, or for `wake`.

        Whoever waits has nothing else to do, so what could not be sent before is tried again meanwhile.
        """
        if wait_s:
            self._flush()
            wait_s = RETRY_S if any(outbox.unsent for outbox in self._outboxes.values()) else wait_s
        found = []
        try:
            found.append(self._commands.get(timeout=wait_s) if wait_s else self._commands.get_nowait())
            while True:
                found.append(self._commands.get_nowait())
        except Empty:
            pass
        if len(self._connections) == 1:
            return [command for _, command in found if command is not None]
        return [command for origin, sent in found if (command := self._admitted(origin, sent)) is not None]

    def _admitted(self, origin: int, command: Command | None) -> Command | None:
        """The command as the engine may see it: an open request's id is that of one API process."""
        match command:
            case None if origin != OWNER:
                del self._outboxes[origin]
                left = [request_id for request_id, number in self._origins.items() if number == origin]
                self._forget(left)
                return Abort(left)
            case Stop() | LoadAdapter() | DropAdapter() if origin != OWNER:
                return None
            case Add(requests):
                return Add(self._noted(origin, with_repetition(requests)))
            case Pool(requests):
                return Pool(self._noted(origin, requests))
            case Abort(request_ids):
                own = [request_id for request_id in request_ids if self._origins.get(request_id) == origin]
                self._forget(own)
                return Abort(own)
        return command

    def _noted(self, origin: int, requests: list[Asked]) -> list[Asked]:
        """Those whose ids are free. The others are refused: two answers could not be told apart."""
        free = [request for request in requests if request.request_id not in self._origins]
        self._origins.update((request.request_id, origin) for request in free)
        if len(free) < len(requests):
            is_free = {request.request_id for request in free}
            taken = [request.request_id for request in requests if request.request_id not in is_free]
            reason = "the request_id is in use; choose another or wait until it has ended"
            refused = [RequestProgress.failed(request_id, reason, is_refusal=True) for request_id in taken]
            self._outboxes[origin].put(Step(refused, self._stats))
            self._flush()
        return free

    def _forget(self, request_ids: Iterable[str]) -> None:
        for request_id in request_ids:
            del self._origins[request_id]
