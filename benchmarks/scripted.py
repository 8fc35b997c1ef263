"""The API process without sockets and without an engine process: its own client, fed with the frames of a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from starlette.types import ASGIApp, Message, Scope

from specserve.engine.api import Engine, FinishReason, GenerationRequest, ModelInfo, Tokenizer
from specserve.engine.batch import RequestProgress
from specserve.engine.client import EngineClient
from specserve.engine.config import EngineConfig, ModelConfig
from specserve.engine.messages import Add, Command, Step, encode_frame
from specserve.engine.output_processor import OutputProcessor
from specserve.engine.stats import EngineStats
from specserve.handlers.app import assemble
from specserve.handlers.chat.prompts import Prompts
from specserve.handlers.lifecycle import Lifecycle
from specserve.handlers.model_directory import ModelDirectory, Source


def no_model(tokenizer: Tokenizer, max_model_len: int) -> ModelInfo:
    return ModelInfo(
        path="scripted",
        architecture="none",
        device="cpu",
        dtype="none",
        attention_backend="none",
        vocab_size=tokenizer.vocab_size,
        max_model_len=max_model_len,
        eos_token_ids=tokenizer.eos_token_ids,
        block_size=16,
        num_blocks=1 << 20,
        num_parameters=0,
    )


class ScriptedEngine(EngineClient):
    """Everything the client does in the API process is real: checks, frames both ways, decoding, stop strings.

    `on_add` plays the engine process; what it takes is added to `elsewhere_s` and is no cost of the API process.
    """

    def __init__(self, tokenizer: Tokenizer, max_model_len: int) -> None:
        """Needs a running event loop."""
        super().__init__(EngineConfig(model=ModelConfig(path="scripted")))
        self._tokenizer = tokenizer
        self._outputs = OutputProcessor(tokenizer)
        self._model = no_model(tokenizer, max_model_len)
        self._reader = asyncio.StreamReader()
        self._tasks.append(asyncio.create_task(self._receive(self._reader)))
        self.on_add: Callable[[list[GenerationRequest]], None] = lambda requests: None
        self.elsewhere_s = 0.0

    def _send(self, command: Command) -> None:
        encode_frame(command)
        if isinstance(command, Add):
            began = perf_counter()
            self.on_add(command.requests)
            self.elsewhere_s += perf_counter() - began

    def feed(self, frame: bytes) -> None:
        self._reader.feed_data(frame)


def app_over(engine: Engine) -> ASGIApp:
    lifecycle = Lifecycle()
    lifecycle.become_ready(engine)
    prompts = Prompts()
    prompts.remark(engine.tokenizer)  # compiles the template, as the server does before it is ready
    directory = ModelDirectory(Source(["bench"], lambda: engine))
    return assemble(directory=directory, engine=lambda: engine, readiness=lifecycle, prompts=prompts)


def step_frame(requests: Sequence[GenerationRequest], token_ids: Sequence[int], *, is_last: bool) -> bytes:
    """What the engine process sends after a step in which all requests gained the same tokens."""
    reason = FinishReason.STOP if is_last else None
    progress = [
        RequestProgress(
            request_id=request.request_id,
            token_ids=list(token_ids),
            logprobs=None,
            finish_reason=reason,
            stop_reason=None,
            num_cached_tokens=0,
        )
        for request in requests
    ]
    return encode_frame(Step(progress, EngineStats()))


@dataclass
class Call:
    """One request over ASGI, as an HTTP server would make it."""

    path: str
    body: bytes
    on_send: Callable[[Message], None] = lambda message: None
    status: int = 0
    answer: bytearray = field(default_factory=bytearray)
    _is_read: bool = False

    @classmethod
    def of(cls, path: str, body: dict[str, Any], **options: Any) -> Call:
        return cls(path, json.dumps(body).encode(), **options)

    @property
    def scope(self) -> Scope:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "root_path": "",
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "headers": [
                (b"host", b"127.0.0.1:8000"),
                (b"user-agent", b"benchmark"),
                (b"accept", b"application/json"),
                (b"content-type", b"application/json"),
                (b"content-length", str(len(self.body)).encode()),
            ],
        }

    async def receive(self) -> Message:
        if self._is_read:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
        self._is_read = True
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.answer += message["body"]
        self.on_send(message)

    async def run(self, app: ASGIApp) -> float:
        """Seconds until the application is done with this request."""
        began = perf_counter()
        await app(self.scope, self.receive, self.send)
        return perf_counter() - began
