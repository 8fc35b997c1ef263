"""The engine process seen from the API process that starts, watches and stops it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Callable

from specserve.engine.child import Child, start_child
from specserve.engine.config import EngineConfig
from specserve.engine.errors import EngineDeadError, EngineError, InsufficientMemoryError
from specserve.engine.link import HUNG, EngineLink
from specserve.engine.messages import Stop, encode_frame

PATIENCE_S = 2
"""For a process that was told to stop."""


class EngineClient(EngineLink):
    """One engine process. Implements `api.Engine` once `start` has returned."""

    _process: subprocess.Popen[bytes] | None = None

    def __init__(
        self,
        config: EngineConfig,
        on_progress: Callable[[str, float], None] = lambda phase, progress: None,
        child: Child | None = None,
    ) -> None:
        """`on_progress` gets a phase in words and a fraction from 0 to 1 while the model loads; `child` is a process
        that has been started for it already."""
        super().__init__(config, on_progress)
        self._child = child

    async def start(self) -> None:
        """Start the process and wait until the model is loaded. Raises StartupError or EngineDeadError."""
        child = self._child or start_child(has_own_code=self._config.model.trust_remote_code)
        self._child, self._process = None, child.process
        await self.connect(child.connection)

    def _greet(self) -> None:
        if self._writer is not None:
            self._writer.write(encode_frame(self._config))

    async def stop(self, reason: str = "the server is stopping") -> None:
        """End the process; requests still open end with EngineDeadError and `reason`. May be called again."""
        await super().stop(reason)
        if self._child is not None:
            self._child.end()
        if self._process is not None:
            try:
                await asyncio.to_thread(self._process.wait, PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)

    def _part(self, writer: asyncio.StreamWriter) -> None:
        writer.write(encode_frame(Stop()))

    async def declare_hung(self) -> None:
        """Another API process waits for an answer, and the engine makes no progress."""
        self._failure = self._failure or "the engine made no progress (watchdog_s)"
        await self._note_death(HUNG)

    def kill(self) -> None:
        """End the process at once, without a word to anybody."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    @property
    def was_started(self) -> bool:
        return self._process is not None

    @property
    def process_id(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def _cause_of_death(self) -> EngineError:
        if self._process is None:
            return EngineDeadError("the engine has not been started")
        self.kill()
        code = await asyncio.to_thread(self._process.wait)
        how = f"the engine process {ending(code)}"
        if self.is_loading and code == -signal.SIGKILL:
            return InsufficientMemoryError(
                f"{how} while loading, most likely because the machine ran out of memory",
                "serve a smaller model, pass --dtype bfloat16 or a lower --kv-cache-memory-bytes, or free memory",
            )
        return EngineDeadError(f"{how} while loading" if self.is_loading else how)


def ending(code: int) -> str:
    """What a process did that `wait` returned `code` for."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
