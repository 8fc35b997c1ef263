"""Time limits of requests, the server's and their own: while queued and in the middle of an answer, streamed or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine, app_over, client_of
from local_engine import LocalEngine, write_model

from specserve.engine.api import GenerationOutput, GenerationRequest
from specserve.handlers.limits import Limits

ROUTES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/completions": {"prompt": "hello"},
}
SOON = {"x-request-timeout-ms": "30"}


@dataclass
class StuckEngine(FakeEngine):
    """Says so many tokens, then nothing for ever; counts the requests that were started and that were given up."""

    num_tokens: int = 0
    started: int = 0
    closed: int = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]:  # type: ignore[override]
        self.started += 1
        try:
            for _ in range(self.num_tokens):
                yield GenerationOutput(request_id=request.request_id, index=request.index, text="a", token_ids=(5,))
            await asyncio.sleep(3600)
        finally:
            self.closed += 1


async def post(engine: FakeEngine | LocalEngine, path: str, body: dict[str, Any], **options: Any) -> Any:
    limits = options.pop("limits", Limits())
    async with client_of(app_over(engine, limits=limits)) as client:
        return await client.post(path, json=ROUTES[path] | body, **options)


@pytest.mark.parametrize("num_tokens", [0, 2])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("path", ROUTES)
async def test_an_answer_that_takes_too_long_is_a_504_and_frees_the_engine(path: str, n: int, num_tokens: int) -> None:
    engine = StuckEngine(num_tokens=num_tokens)
    reply = await post(engine, path, {"n": n}, headers=SOON)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["type"]) == (504, "deadline_exceeded", "server_error")
    assert "0.03 s (x-request-timeout-ms)" in error["message"]
    assert reply.headers["retry-after"]
    assert (engine.started, engine.closed) == (n, n)


@pytest.mark.parametrize("path", ROUTES)
async def test_a_stream_that_takes_too_long_ends_with_an_error_event(path: str) -> None:
    engine = StuckEngine(num_tokens=2)
    reply = await post(engine, path, {"stream": True}, headers=SOON)
    assert reply.status_code == 200
    *pieces, last, mark, end = reply.text.split("\n\n")
    assert pieces
    assert all("choices" in json.loads(piece.removeprefix("data: ")) for piece in pieces)
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
    assert (mark, end) == ("data: [DONE]", "")
    assert engine.closed == 1


@pytest.mark.parametrize("path", ROUTES)
async def test_a_stream_that_has_not_begun_is_a_504_too(path: str) -> None:
    engine = StuckEngine()
    reply = await post(engine, path, {"stream": True}, headers=SOON)
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert engine.closed == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("deadlines"))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_late_answer_gives_its_blocks_back(stream: bool, folder: Path) -> None:
    engine = LocalEngine(folder, max_model_len=512)
    body = {"n": 8, "max_tokens": 500, "ignore_eos": True, "stream": stream}
    reply = await post(engine, "/v1/completions", body, headers={"x-request-timeout-ms": "20"})
    assert "deadline_exceeded" in reply.text
    stats = engine.stats()
    assert (engine.num_open, stats.num_running, stats.num_waiting, stats.num_used_blocks) == (0, 0, 0, 0)


async def test_the_servers_limit_holds_for_requests_that_name_none() -> None:
    reply = await post(StuckEngine(), "/v1/completions", {}, limits=Limits(request_timeout_s=0.02))
    assert reply.status_code == 504
    assert "0.02 s (--request-timeout)" in reply.json()["error"]["message"]


@pytest.mark.parametrize(("header", "source"), [("20", "x-request-timeout-ms"), ("3600000", "--request-timeout")])
async def test_a_request_may_ask_for_less_time_but_not_for_more(header: str, source: str) -> None:
    limits = Limits(request_timeout_s=0.05)
    reply = await post(StuckEngine(), "/v1/completions", {}, limits=limits, headers={"x-request-timeout-ms": header})
    assert reply.status_code == 504
    assert source in reply.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ROUTES)
async def test_an_answer_in_time_is_the_same_with_a_limit(path: str, stream: bool) -> None:
    def text(reply: Any) -> str:
        events = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: {")]
        found = [json.loads(event) for event in events] if stream else [reply.json()]
        return "".join(json.dumps(piece["choices"], sort_keys=True) for piece in found)

    body = {"stream": stream}
    limited = await post(FakeEngine(), path, body, headers={"x-request-timeout-ms": "60000"})
    assert limited.status_code == 200
    assert text(limited) == text(await post(FakeEngine(), path, body))


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "soon", "", "86400001", "9" * 30])
async def test_a_header_that_is_no_time_is_refused_with_its_name(value: str) -> None:
    engine = FakeEngine()
    reply = await post(engine, "/v1/completions", {}, headers={"x-request-timeout-ms": value})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "invalid_value", "x-request-timeout-ms")
    assert not engine.requests


async def test_tokenizing_has_a_limit_too_and_health_has_none() -> None:
    async with client_of(app_over(FakeEngine())) as client:
        assert (await client.get("/health", headers={"x-request-timeout-ms": "x"})).status_code == 200
        reply = await client.post("/tokenize", json={"prompt": "a"}, headers={"x-request-timeout-ms": "x"})
        assert reply.status_code == 400
