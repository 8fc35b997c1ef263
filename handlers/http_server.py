"""The HTTP server of one API process: uvicorn, as everything here needs it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

from specserve.handlers.limits import Limits
from specserve.handlers.settings import ServerSettings

KEEP_ALIVE_S = 75
"""Longer than the idle time of common proxies and client pools, so that they close first and no request is lost."""
PING_S, PONG_S = 20, 60
"""How often a client of a WebSocket is asked whether it is there, and how long it may take to say so."""
LAST_WORDS_S = 2
"""For the ends of streams to reach their clients."""


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: others decide when it ends."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="websockets-sansio",
                ws_max_size=Limits().max_body_bytes,
                ws_ping_interval=PING_S,
                ws_ping_timeout=PONG_S,
                ws_per_message_deflate=False,  # events are small, and each would cost more to pack than to send
                lifespan="off",
                log_config=None,
                log_level=settings.uvicorn_log_level,
                access_log=False,  # `middleware.RequestLog` writes one
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=LAST_WORDS_S,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    @property
    def running(self) -> set[asyncio.Task[None]]:
        """Requests whose answer is not complete."""
        return set(self.server_state.tasks)
