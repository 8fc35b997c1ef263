"""The Responses API over a WebSocket: the same events as over HTTP, and what one connection remembers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fake_engine import TOKENIZER, FakeEngine, app_over
from openai import OpenAI
from response_linter import lint_response
from served_app import port_of
from websockets.sync.client import ClientConnection, connect

from specserve.engine.errors import OverloadedError
from specserve.handlers.sse import event as frame

Json = Any
PATH = "/v1/responses"
PARIS = "The capital of France is Paris."
ENGINE = FakeEngine(max_model_len=800)
LAST = ("response.completed", "response.incomplete", "response.failed", "error")
WEATHER = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": False}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
FORGOTTEN = {"store": False, "input": "Remember the word: ember."}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with port_of(app_over(ENGINE)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def fresh() -> None:
    ENGINE.answer = lambda request: PARIS
    ENGINE.requests.clear()
    ENGINE.dies_after = ENGINE.refusal = None


@pytest.fixture
def socket(port: int) -> Iterator[ClientConnection]:
    with open_socket(port) as opened:
        yield opened


def open_socket(port: int, **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}{PATH}", **options)


def turn(socket: ClientConnection, body: Json, **more: Any) -> list[Json]:
    """The messages of one turn, which have to keep the rules of streams."""
    socket.send(json.dumps({"type": "response.create", **body, **more}))
    return answered(socket)


def answered(socket: ClientConnection) -> list[Json]:
    found: list[Json] = []
    while not found or found[-1]["type"] not in LAST:
        text = socket.recv(timeout=30)
        assert isinstance(text, str)
        found.append(json.loads(text))
    if found[-1]["type"] != "error":
        text = b"".join(frame(json.dumps(one).encode(), one["type"]) for one in found).decode()
        assert lint_response(text, PATH, {}) == []
    return found


def created(socket: ClientConnection, body: Json, **more: Any) -> Json:
    last = turn(socket, body, **more)[-1]
    assert last["type"] == "response.completed", last
    return last["response"]


def problem(messages: list[Json]) -> tuple[int, str, str | None]:
    (message,) = messages
    assert message["type"] == "error"
    return message["status"], message["error"]["code"], message["error"]["param"]


def without_identity(value: Json) -> Json:
    if isinstance(value, list):
        return [without_identity(one) for one in value]
    if isinstance(value, dict):
        names = ("id", "item_id", "call_id", "created_at", "completed_at", "encrypted_content")
        return {name: without_identity(one) for name, one in value.items() if name not in names}
    return value


def prompt() -> str:
    """What the model read last."""
    return TOKENIZER.decode(ENGINE.requests[-1].prompt_token_ids)


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (PARIS, {}),
        (PARIS, {"max_output_tokens": 3, "metadata": {"a": "b"}, "instructions": "Be brief."}),
        (f"hm</think>Let me see. {CALL}", {"tools": [WEATHER], "chat_template_kwargs": {"enable_thinking": True}}),
        (PARIS, {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "store": False}),
        (PARIS, {"stream_options": {"include_obfuscation": False}}),
    ],
)
def test_the_events_are_those_of_a_stream(port: int, socket: ClientConnection, answer: str, asked: Json) -> None:
    ENGINE.answer = lambda request: answer
    body = {"input": "What is the capital of France?", **asked}
    streamed = httpx2.post(f"http://127.0.0.1:{port}{PATH}", json={**body, "stream": True}).text
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: ")]
    assert without_identity(turn(socket, body)) == without_identity(events)
    assert without_identity(turn(socket, body, stream=True, background=False)) == without_identity(events)


def test_a_stream_is_broken_off_in_the_same_words(port: int, socket: ClientConnection) -> None:
    ENGINE.dies_after = 3
    streamed = httpx2.post(f"http://127.0.0.1:{port}{PATH}", json={"input": "hi", "stream": True}).text
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "response.failed"
    assert without_identity(turn(socket, {"input": "hi"})) == without_identity(events)
    ENGINE.dies_after = None
    assert created(socket, {"input": "hi"})["status"] == "completed"


def test_what_is_not_stored_goes_on_where_it_was_made_and_nowhere_else(port: int, socket: ClientConnection) -> None:
    first = created(socket, FORGOTTEN)
    assert first["store"] is False
    second = created(socket, {"store": False, "input": "Which word?", "previous_response_id": first["id"]})
    assert second["previous_response_id"] == first["id"]
    third = created(socket, {"store": False, "input": "Again?", "previous_response_id": second["id"]})
    assert [prompt().count(text) for text in ("word: ember", PARIS, "Which word?", "Again?")] == [1, 2, 1, 1]
    assert httpx2.get(f"http://127.0.0.1:{port}{PATH}/{third['id']}").status_code == 404
    with open_socket(port) as other:
        missed = turn(other, {"store": False, "input": "Which word?", "previous_response_id": first["id"]})
        assert problem(missed) == (400, "previous_response_not_found", "previous_response_id")
        assert created(other, FORGOTTEN)["status"] == "completed"


def test_what_is_stored_goes_on_over_either_way(port: int, socket: ClientConnection) -> None:
    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
    first = client.responses.create(model="fake", input="My name is Anna.")
    second = created(socket, {"input": "And what is yours?", "previous_response_id": first.id})
    assert client.responses.retrieve(second["id"]).output_text == PARIS
    with open_socket(port) as other:
        third = created(other, {"store": False, "input": "And his?", "previous_response_id": second["id"]})
        stored = created(other, {"input": "And hers?", "previous_response_id": third["id"]})
    client.responses.create(model="fake", input="Thank you.", previous_response_id=stored["id"])
    places = [prompt().index(text) for text in ("Anna", "yours", "And his", "And hers", "Thank you")]
    assert places == sorted(places)


def test_an_item_of_the_connection_can_be_referred_to(socket: ClientConnection) -> None:
    item = created(socket, FORGOTTEN)["output"][0]
    created(socket, {"store": False, "input": [{"type": "item_reference", "id": item["id"]}]})
    assert prompt().count(PARIS) == 1


@pytest.mark.parametrize(
    "failing",
    [
        {"input": [{"type": "function_call_output", "call_id": "call_of_nobody", "output": "4"}]},
        {"input": "hi", "temperature": -1},
        {"input": "hi", "model": "another"},
    ],
)
def test_a_continuation_that_fails_cannot_be_tried_again(
    port: int, socket: ClientConnection, failing: dict[str, Any]
) -> None:
    first = created(socket, FORGOTTEN)
    status, _, param = problem(turn(socket, {"store": False, "previous_response_id": first["id"], **failing}))
    assert (400 <= status < 500, param is not None) == (True, True)
    again = turn(socket, {"store": False, "input": "Which word?", "previous_response_id": first["id"]})
    assert problem(again) == (400, "previous_response_not_found", "previous_response_id")


def test_a_continuation_that_breaks_off_cannot_be_tried_again(socket: ClientConnection) -> None:
    first = created(socket, FORGOTTEN)
    ENGINE.dies_after = 2
    goes_on = {"store": False, "input": "Which word?", "previous_response_id": first["id"]}
    assert turn(socket, goes_on)[-1]["type"] == "response.failed"
    ENGINE.dies_after = None
    assert problem(turn(socket, goes_on))[1] == "previous_response_not_found"


def test_a_stored_response_outlives_a_continuation_that_fails(socket: ClientConnection) -> None:
    first = created(socket, {"input": "My name is Anna."})
    assert problem(turn(socket, {"input": "hi", "temperature": -1, "previous_response_id": first["id"]}))[0] == 400
    assert created(socket, {"input": "hi", "previous_response_id": first["id"]})["status"] == "completed"


def test_a_connection_remembers_its_latest_responses_only(socket: ClientConnection) -> None:
    made = [created(socket, FORGOTTEN)["id"] for _ in range(17)]
    ask = {"store": False, "input": "Which word?"}
    assert problem(turn(socket, ask, previous_response_id=made[0]))[1] == "previous_response_not_found"
    assert created(socket, ask, previous_response_id=made[-1])["status"] == "completed"


def test_what_the_engine_refuses_is_an_error_with_its_status(socket: ClientConnection) -> None:
    ENGINE.refusal = OverloadedError("too much to do")
    assert problem(turn(socket, {"input": "hi"})) == (503, "server_overloaded", None)
    ENGINE.refusal = None
    assert created(socket, {"input": "hi"})["status"] == "completed"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({}, (400, "missing_required_parameter", "type")),
        ({"type": "response.cancel"}, (400, "invalid_value", "type")),
        ({"type": 3}, (400, "invalid_value", "type")),
        ({"type": "response.create"}, (400, "missing_required_parameter", "input")),
        ({"type": "response.create", "input": 3}, (400, "invalid_type", "input")),
        ({"type": "response.create", "input": "hi", "model": "another"}, (404, "model_not_found", "model")),
        ({"type": "response.create", "input": "hi", "background": True}, (400, "unsupported_value", "background")),
        ({"type": "response.create", "input": "hi", "stream": False}, (400, "unsupported_value", "stream")),
        ({"type": "response.create", "input": "hi", "stream_id": "a"}, (400, "unsupported_parameter", "stream_id")),
        ({"type": "response.create", "input": "hi", "generate": False}, (400, "unsupported_parameter", "generate")),
        ([], (400, "invalid_request", None)),
        ("{", (400, "invalid_request", None)),
        ("", (400, "invalid_request", None)),
        (b"{}", (400, "invalid_request", None)),
    ],
)
def test_a_message_that_is_wrong_leaves_the_connection_open(
    socket: ClientConnection, message: Json, expected: tuple[int, str, str | None]
) -> None:
    socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
    assert problem(answered(socket)) == expected
    assert created(socket, {"input": "hi"})["status"] == "completed"


def test_messages_that_come_at_once_are_answered_one_after_the_other(socket: ClientConnection) -> None:
    names = [f"turn-{number}" for number in range(7)]
    for name in names:
        socket.send(json.dumps({"type": "response.create", "input": "hi", "request_id": name}))
    turns = [answered(socket) for _ in names]
    assert [one[-1]["response"]["id"] for one in turns] == [f"resp_{name}" for name in names]
