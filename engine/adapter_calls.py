"""Adapters that are being loaded, on the side of the API process: one await each, and an id that nobody else uses."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from specserve.engine.errors import EngineError, InvalidParameterError
from specserve.engine.messages import AdapterLoaded, DropAdapter, LoadAdapter

FIRST_BITS = 32
"""Ids below have been given at the start, in order."""


class AdapterCalls:
    """Ids are random: several API processes may load into one engine."""

    def __init__(self, send: Callable[[LoadAdapter | DropAdapter], None]) -> None:
        """`send` has to keep the order of what is sent, requests included."""
        self._send = send
        self._open: dict[int, asyncio.Future[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Where `send` may be called."""
        self._loop = loop

    async def load(self, name: str, path: str) -> int:
        """Raises InvalidParameterError with the engine's reason. A call that is cancelled leaves nothing loaded."""
        adapter_id = (1 << FIRST_BITS) + secrets.randbits(FIRST_BITS + 30)
        self._open[adapter_id] = asyncio.get_running_loop().create_future()
        self._send(LoadAdapter(adapter_id, name, path))
        try:
            await self._open[adapter_id]
        except asyncio.CancelledError:
            self._send(DropAdapter(adapter_id))
            raise
        finally:
            del self._open[adapter_id]
        return adapter_id

    def drop(self, adapter_id: int) -> None:
        """From any thread; engines that are gone hear of nothing."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._send, DropAdapter(adapter_id))

    def take(self, event: AdapterLoaded) -> None:
        call = self._open.get(event.adapter_id)
        if call is None or call.done():
            return
        if event.error is None:
            call.set_result(None)
        else:
            call.set_exception(InvalidParameterError(event.error, param="lora_path"))

    def fail_all(self, error: Callable[[], EngineError]) -> None:
        for call in self._open.values():
            if not call.done():
                call.set_exception(error())
