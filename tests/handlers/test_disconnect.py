"""A client who leaves ends its request in the engine: over real sockets, streamed or not, queued or running."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Message, Scope

from specserve.engine.api import GenerationOutput, GenerationRequest, ModelInfo, Tokenizer
from specserve.engine.stats import EngineStats
from specserve.engine.tokenizer import load_tokenizer
from specserve.handlers.app import assemble
from specserve.handlers.demo import checkpoint_path
from specserve.handlers.lifecycle import Lifecycle
from specserve.handlers.model_directory import ModelDirectory, Source

PATIENCE_S = 10.0


class SlowEngine:
    """Says one token, or nothing at all, and then keeps everybody waiting; remembers who was closed."""

    def __init__(self) -> None:
        self.tokenizer: Tokenizer = load_tokenizer(checkpoint_path())
        self.model = ModelInfo(
            path=str(checkpoint_path()),
            architecture="none",
            device="cpu",
            dtype="none",
            attention_backend="none",
            vocab_size=3072,
            max_model_len=512,
            eos_token_ids=(),
            block_size=16,
            num_blocks=100,
            num_parameters=0,
        )
        self.speaks_first = True
        self.started = 0
        self.closed = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]:
        self.started += 1
        try:
            if self.speaks_first:
                yield GenerationOutput(request_id=request.request_id, index=0, text="a", token_ids=(5,))
            await asyncio.sleep(3600)
        finally:
            self.closed += 1

    def stats(self) -> EngineStats:
        return EngineStats()

    def check_health(self) -> None:
        return None


class Served:
    def __init__(self, engine: SlowEngine) -> None:
        lifecycle = Lifecycle()
        lifecycle.become_ready(engine)
        app = assemble(
            directory=ModelDirectory(Source(["m"], lambda: engine)), engine=lambda: engine, readiness=lifecycle
        )
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],))
        self.thread.start()

    def connect(self, *, stream: bool, n: int = 1, **fields: object) -> socket.socket:
        """A connection that has sent its request."""
        connection = socket.create_connection(self.listener.getsockname())
        body = json.dumps({"prompt": "hello", "stream": stream, "n": n} | fields).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        return connection

    def stop(self) -> None:
        self.server.should_exit = True
        self.server.force_exit = True
        self.thread.join()


@pytest.fixture
def engine() -> SlowEngine:
    assert Path(checkpoint_path()).is_dir()
    return SlowEngine()


@pytest.fixture
def served(engine: SlowEngine) -> Iterator[Served]:
    running = Served(engine)
    yield running
    running.stop()


def wait_for(number: int, read: object) -> None:
    limit = time.monotonic() + PATIENCE_S
    while read() != number:  # type: ignore[operator]
        assert time.monotonic() < limit, f"{read()} instead of {number}"  # type: ignore[operator]
        time.sleep(0.01)


def reset(connection: socket.socket) -> None:
    """Close with RST, as a killed client does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("speaks_first", [True, False], ids=["decoding", "in the queue or in prefill"])
@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["FIN", "RST"])
def test_leaving_closes_every_choice(
    served: Served, engine: SlowEngine, leave: object, speaks_first: bool, stream: bool, n: int
) -> None:
    engine.speaks_first = speaks_first
    connection = served.connect(stream=stream, n=n)
    wait_for(n, lambda: engine.started)
    assert engine.closed == 0
    leave(connection)  # type: ignore[operator]
    wait_for(n, lambda: engine.closed)


def test_leaving_closes_the_step_of_every_search(served: Served, engine: SlowEngine) -> None:
    connection = served.connect(stream=False, n=2, use_beam_search=True, prompt=["one", "two", "three"])
    wait_for(3, lambda: engine.started)
    assert engine.closed == 0
    connection.close()
    wait_for(3, lambda: engine.closed)


async def test_a_server_that_cancels_a_request_closes_it_too(engine: SlowEngine) -> None:
    lifecycle = Lifecycle()
    lifecycle.become_ready(engine)
    app = assemble(directory=ModelDirectory(Source(["m"], lambda: engine)), engine=lambda: engine, readiness=lifecycle)
    body = json.dumps({"prompt": "hello"}).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not messages:
            await asyncio.sleep(3600)
        return messages.pop()

    async def send(message: Message) -> None:
        raise AssertionError("nothing can be answered")

    scope: Scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b""}
    scope["headers"] = [(b"content-type", b"application/json")]
    request = asyncio.create_task(app(scope, receive, send))
    while not engine.started:  # noqa: ASYNC110 - it is told from within a generator
        await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert engine.closed == 1
