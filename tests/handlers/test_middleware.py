"""What a request is called, wherever it is named, and how long the server says it took."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fake_engine import FakeEngine, app_over, client_of
from hypothesis import given
from hypothesis import strategies as st

from specserve.handlers.context import SAFE_ID
from specserve.handlers.middleware import identify

ROUTES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/completions": {"prompt": "hello"},
}


async def post(path: str, body: dict[str, Any], **options: Any) -> Any:
    async with client_of(app_over(options.pop("engine", FakeEngine()))) as client:
        return await client.post(path, json=body, **options)


def names_of(reply: Any) -> set[str]:
    return {reply.headers["x-request-id"], reply.json()["id"].partition("-")[2]}


@given(value=st.binary(max_size=140))
def test_no_header_can_break_out_of_a_line_or_a_header(value: bytes) -> None:
    identity = identify({"headers": [(b"x-request-id", value)]})
    assert SAFE_ID.fullmatch(identity.id)
    assert identity.was_sent == (identity.id.encode() == value)


@pytest.mark.parametrize("path", ROUTES)
async def test_header_answer_and_log_call_a_request_the_same(path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "specserve.access")
    for body, headers, expected in (
        ({}, {"X-Request-Id": "from-header"}, "from-header"),
        ({"request_id": "from-body"}, {}, "from-body"),
        ({"request_id": "from-body"}, {"X-Request-Id": "from-header"}, "from-header"),
    ):
        caplog.clear()
        assert names_of(await post(path, ROUTES[path] | body, headers=headers)) == {expected}
        assert f"request_id={expected}" in caplog.text


@pytest.mark.parametrize("name", ["two words", "line\nbreak", "a" * 129, "ünsafe", "a,b"])
async def test_a_name_in_the_body_that_is_not_safe_is_replaced_everywhere(name: str) -> None:
    reply = await post("/v1/completions", {"prompt": "hello", "request_id": name})
    (chosen,) = names_of(reply)
    assert len(chosen) == 32


async def test_requests_of_one_name_stay_apart_in_the_engine() -> None:
    engine = FakeEngine()
    for _ in range(2):
        await post("/v1/completions", ROUTES["/v1/completions"], engine=engine, headers={"X-Request-Id": "same"})
    first, second = (request.request_id for request in engine.requests)
    assert first != second


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/completions", {"prompt": "hello"}, 200),
        ("/v1/completions", {"prompt": "hello", "stream": True}, 200),
        ("/v1/completions", {"prompt": 5}, 400),
        ("/v1/nothing", {}, 404),
        ("/health", {}, 405),
    ],
)
async def test_every_answer_says_its_name_and_its_time(path: str, body: dict[str, Any], status: int) -> None:
    reply = await post(path, body)
    assert reply.status_code == status
    assert SAFE_ID.fullmatch(reply.headers["x-request-id"])
    assert int(reply.headers["openai-processing-ms"]) >= 0


async def test_a_fault_of_the_server_is_found_in_the_log_by_the_name_in_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = FakeEngine(answer=lambda request: str(1 // 0))
    reply = await post("/v1/completions", {"prompt": "hello", "request_id": "find-me"}, engine=engine)
    assert reply.status_code == 500
    assert "find-me" in reply.json()["error"]["message"]
    assert "request_id=find-me failed" in caplog.text


@pytest.mark.parametrize("path", ROUTES)
async def test_the_log_tells_the_numbers_of_a_request_and_no_text(path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "specserve.requests")
    body = ROUTES[path] | {"max_tokens": 7, "temperature": 0.25, "stop": ["secret"], "request_id": "r-1"}
    reply = await post(path, body)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "specserve.requests"]
    tokens = reply.json()["usage"]["prompt_tokens"]
    assert line == f"request_id=r-1 num_prompt_tokens={tokens} max_tokens=7 temperature=0.25"
    caplog.clear()
    caplog.set_level(logging.WARNING, "specserve.requests")
    await post(path, body)
    assert not [record for record in caplog.records if record.name == "specserve.requests"]


async def test_paths_can_be_left_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "specserve.access")
    async with client_of(app_over(FakeEngine(), unlogged_paths=frozenset({"/health"}))) as client:
        await client.get("/health")
        await client.get("/version")
    lines = [record.getMessage() for record in caplog.records if record.name == "specserve.access"]
    assert ["path=/version " in line for line in lines] == [True]
