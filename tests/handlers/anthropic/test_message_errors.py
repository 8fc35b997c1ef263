"""Every failure on these routes has the envelope, the type and the id that clients of this protocol read."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fake_engine import Condition, FakeEngine, app_over, client_of
from messaging import HELLO, PATH, engine_of, post, refusal

from specserve.engine.errors import EngineDeadError, OverloadedError
from specserve.handlers.limits import Limits

COUNT = f"{PATH}/count_tokens"


@pytest.mark.parametrize("path", [PATH, COUNT])
async def test_an_unknown_model(path: str) -> None:
    told = await refusal(HELLO | {"model": "claude-x"}, path=path)
    assert told == (404, "not_found_error", "model_not_found", "model")


@pytest.mark.parametrize("path", [PATH, COUNT, f"{PATH}/batches"])
@pytest.mark.parametrize("headers", [{}, {"x-api-key": "wrong"}, {"authorization": "Bearer wrong"}])
async def test_no_key(path: str, headers: dict[str, str]) -> None:
    told = await refusal(HELLO, path=path, headers=headers, api_keys=("key",))
    assert told == (401, "authentication_error", "invalid_api_key", None)


async def test_a_key_as_these_clients_send_it() -> None:
    headers = {"x-api-key": "key", "anthropic-version": "2023-06-01", "anthropic-beta": "some-2026-01-01"}
    reply = await post(engine_of("ok"), HELLO, path=f"{PATH}?beta=true", headers=headers, api_keys=("key",))
    assert reply.status_code == 200
    assert reply.headers["request-id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("raw", "kind", "told"),
    [
        (b"", "application/json", (400, "invalid_request_error", "invalid_request")),
        (b"[]", "application/json", (400, "invalid_request_error", "invalid_request")),
        (b'{"a', "application/json", (400, "invalid_request_error", "invalid_request")),
        (b"{}", "text/plain", (415, "invalid_request_error", "unsupported_media_type")),
        (b"{" + b" " * 3000 + b"}", "application/json", (413, "request_too_large", "request_too_large")),
        (b'{"messages":' + b"[" * 300, "application/json", (413, "request_too_large", "request_too_large")),
    ],
)
async def test_bodies_that_are_none(raw: bytes, kind: str, told: tuple[int, str, str]) -> None:
    app = app_over(engine_of("ok"), limits=Limits(max_body_bytes=2000))
    async with client_of(app) as client:
        reply = await client.post(PATH, content=raw, headers={"content-type": kind})
    error = reply.json()["error"]
    assert (reply.status_code, error["type"], error["code"]) == told
    assert reply.json()["request_id"] == reply.headers["request-id"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", PATH, 405), ("POST", f"{PATH}/batches", 404)])
async def test_wrong_ways(method: str, path: str, status: int) -> None:
    async with client_of(app_over(engine_of("ok"))) as client:
        reply = await client.request(method, path)
    assert reply.status_code == status
    assert reply.json()["type"] == "error"
    assert reply.json()["request_id"] == reply.headers["request-id"]


async def test_other_paths_keep_their_envelope() -> None:
    async with client_of(app_over(engine_of("ok"))) as client:
        reply = await client.post("/v1/messagesx")
    assert "type" not in reply.json()
    assert "request-id" not in reply.headers


async def test_a_prompt_that_is_too_long_says_so_in_the_words_agents_look_for() -> None:
    for words in ("word " * 90, "word " * 9000):
        reply = await post(
            engine_of("ok", max_model_len=64), HELLO | {"messages": [{"role": "user", "content": words}]}
        )
        error = reply.json()["error"]
        assert (reply.status_code, error["type"], error["code"]) == (
            400,
            "invalid_request_error",
            "context_length_exceeded",
        )
        assert error["message"].startswith("prompt is too long: ")
    body = HELLO | {"max_tokens": 900}
    reply = await post(engine_of("ok"), body, limits=Limits(max_tokens_policy="reject"))
    assert reply.json()["error"]["param"] == "max_tokens"
    assert "prompt is too long" not in reply.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("engine", "told"),
    [
        (FakeEngine(refusal=OverloadedError("full")), (503, "overloaded_error", "server_overloaded", None)),
        (FakeEngine(refusal=EngineDeadError("gone")), (503, "overloaded_error", "engine_dead", None)),
        (FakeEngine(answer=lambda request: 1 / 0), (500, "api_error", "internal_error", None)),  # type: ignore[arg-type, return-value]
    ],
)
async def test_faults_of_the_server(engine: FakeEngine, told: Any, stream: bool) -> None:
    assert await refusal(HELLO | {"stream": stream}, engine) == told


@pytest.mark.parametrize("state", ["loading", "draining", "failed"])
async def test_states_in_which_nothing_is_answered(state: Any) -> None:
    told = await refusal(HELLO, readiness=Condition(state=state, phase="x"))
    assert told[:2] == (503, "overloaded_error")


async def test_a_late_answer() -> None:
    slow = engine_of("a long answer", pause_s=0.2)
    told = await refusal(HELLO, slow, headers={"x-request-timeout-ms": "50"})
    assert told == (504, "timeout_error", "deadline_exceeded", None)


async def test_too_many_at_once() -> None:
    app = app_over(engine_of("slow", pause_s=0.1), limits=Limits(max_open_per_client=1))
    async with client_of(app) as client:
        replies = await asyncio.gather(*(client.post(PATH, json=HELLO, headers={"x-api-key": "k"}) for _ in range(3)))
    refused = [reply for reply in replies if reply.status_code == 429]
    assert len(refused) == 2
    assert all(reply.json()["error"]["type"] == "rate_limit_error" for reply in refused)
    assert all(reply.headers["retry-after"] for reply in refused)
