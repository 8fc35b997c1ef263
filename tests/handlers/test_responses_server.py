"""Stored responses of a real server: through the official client, after clients leave, through drains and restarts."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.resources.responses.responses import ResponsesConnection
from openai.types.responses import Response
from running_server import PATIENCE_S, RunningServer, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

PATH = "/v1/responses"
SMALL = ("--max-model-len", "1024")
MODEL = "specserve-demo"
LONG: dict[str, Any] = {"input": "Tell me a story.", "background": True, "ignore_eos": True}
"""It does not end by itself before the context is full."""


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serving(*SMALL, "--api-key", "ann", "bob") as started:
        started.wait_ready()
        yield started


def client_with(server: RunningServer, key: str) -> OpenAI:
    return OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def ann(server: RunningServer) -> OpenAI:
    return client_with(server, "ann")


@pytest.fixture(scope="module")
def bob(server: RunningServer) -> OpenAI:
    return client_with(server, "bob")


def ended(client: OpenAI, response_id: str) -> Response:
    limit = time.monotonic() + PATIENCE_S
    while (found := client.responses.retrieve(response_id)).status in ("queued", "in_progress"):
        assert time.monotonic() < limit, "the response did not end"
        time.sleep(0.02)
    return found


def test_a_conversation_goes_on_from_a_stored_response(ann: OpenAI) -> None:
    first = ann.responses.create(model=MODEL, input="My name is Anna.")
    second = ann.responses.create(model=MODEL, input="What is my name?", previous_response_id=first.id)
    assert second.output_text == "Your name is Anna."
    assert ann.responses.retrieve(second.id) == second
    page = ann.responses.input_items.list(second.id, order="asc", limit=2)
    assert [item.id for item in page][1] == first.output[0].id  # the client goes from page to page by itself
    assert len(list(page)) == 3


def test_input_tokens_are_those_of_the_answer(ann: OpenAI) -> None:
    first = ann.responses.create(model=MODEL, input="My name is Anna.")
    asked: dict[str, Any] = {"model": MODEL, "input": "What is my name?", "previous_response_id": first.id}
    counted = ann.responses.input_tokens.count(**asked)
    usage = ann.responses.create(**asked).usage
    assert usage is not None
    assert counted.input_tokens == usage.input_tokens


def test_another_key_finds_nothing(ann: OpenAI, bob: OpenAI) -> None:
    response = ann.responses.create(model=MODEL, input="hello")
    for ask in (bob.responses.retrieve, bob.responses.cancel, bob.responses.delete, bob.responses.input_items.list):
        with pytest.raises(openai.NotFoundError) as refused:
            ask(response.id)
        assert refused.value.param == "response_id"
    ann.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        ann.responses.retrieve(response.id)


def test_a_stream_is_taken_up_again_where_it_was_left(ann: OpenAI) -> None:
    with ann.responses.create(model=MODEL, input="Tell me a story.", background=True, stream=True) as stream:
        begun = [next(stream) for _ in range(5)]
    first: Any = begun[0]
    rest = list(ann.responses.retrieve(first.response.id, stream=True, starting_after=begun[-1].sequence_number))
    assert [event.sequence_number for event in begun + rest] == list(range(len(begun) + len(rest)))
    last: Any = rest[-1]
    assert last.type == "response.completed"
    text = "".join(event.delta for event in begun + rest if event.type == "response.output_text.delta")
    assert text == last.response.output_text == ended(ann, first.response.id).output_text


def test_a_cancelled_response_stays_cancelled(ann: OpenAI) -> None:
    response = ann.responses.create(model=MODEL, extra_body={"ignore_eos": True}, input="hello", background=True)
    assert response.status == "queued"
    cancelled = ann.responses.cancel(response.id)
    assert cancelled.status == "cancelled"
    assert ann.responses.cancel(response.id) == ann.responses.retrieve(response.id) == cancelled


def test_the_official_client_holds_a_conversation_over_a_websocket(ann: OpenAI) -> None:
    with ann.responses.connect() as connection:
        connection.response.create(model=MODEL, input="My name is Anna.", store=False)
        first = last_response(connection)
        connection.response.create(model=MODEL, input="What is my name?", store=False, previous_response_id=first.id)
        second = last_response(connection)
        assert (second.output_text, second.store) == ("Your name is Anna.", False)
        connection.response.create(model=MODEL, input="What?", store=False, previous_response_id="resp_none")
        refused: Any = next(iter(connection))
        assert (refused.type, refused.status, refused.error.code) == ("error", 400, "previous_response_not_found")
        connection.response.create(model=MODEL, input="What is my name?", previous_response_id=second.id)
        third = last_response(connection)
    assert ann.responses.retrieve(third.id) == third


def last_response(connection: ResponsesConnection) -> Response:
    for event in connection:
        if event.type == "response.completed":
            return event.response
        assert event.type != "error", event
    raise AssertionError("the connection ended before the response did")


async def test_the_official_asynchronous_client_takes_the_events_of_a_websocket(server: RunningServer) -> None:
    asked = "Tell me a story."
    async with AsyncOpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="bob", max_retries=0) as client:
        async with client.responses.connect() as connection:
            await connection.response.create(model=MODEL, input=asked, max_output_tokens=20)
            text = ""
            async for event in connection:
                if event.type == "response.output_text.delta":
                    text += event.delta
                if event.type in ("response.completed", "response.incomplete"):
                    break
        whole = await client.responses.create(model=MODEL, input=asked, max_output_tokens=20)
    assert text == whole.output_text != ""


def test_a_websocket_without_the_right_key_does_not_open(server: RunningServer) -> None:
    with pytest.raises(InvalidStatus) as refused, client_with(server, "carl").responses.connect():
        raise AssertionError("it opened")
    assert refused.value.response.status_code == 401


def test_a_drain_waits_for_turns_and_not_for_those_who_are_silent() -> None:
    with serving(*SMALL, "--shutdown-timeout", "60") as server:
        server.wait_ready()
        url = f"ws://127.0.0.1:{server.port}{PATH}"
        with connect(url) as silent, connect(url) as busy:
            busy.send(json.dumps({"type": "response.create", **LONG, "background": False, "max_output_tokens": 300}))
            assert json.loads(busy.recv(timeout=PATIENCE_S))["type"] == "response.created"
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                silent.recv(timeout=PATIENCE_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
            *_, last = (json.loads(message) for message in busy)
        assert (last["type"], last["response"]["usage"]["output_tokens"]) == ("response.incomplete", 300)
        code, _, errors = server.wait_end()
        assert (code, "Traceback" in errors) == (0, False)


def ask(server: RunningServer, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    status, answer = server.answer(method, path, body)
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


def test_a_file_keeps_responses_through_a_restart(tmp_path: Path) -> None:
    flags = (*SMALL, "--responses-store-path", str(tmp_path / "responses.sqlite"))
    with serving(*flags) as server:
        server.wait_ready()
        first = ask(server, "POST", PATH, {"input": "My name is Anna."})
        server.process.send_signal(signal.SIGTERM)
        assert server.wait_end()[0] == 0
    with serving(*flags) as server:
        server.wait_ready()
        assert ask(server, "GET", f"{PATH}/{first['id']}") == first
        second = ask(server, "POST", PATH, {"input": "What is my name?", "previous_response_id": first["id"]})
        assert second["output"][0]["content"][0]["text"] == "Your name is Anna."
        server.process.kill()
        server.process.wait()
    with serving(*flags) as server:
        server.wait_ready()
        assert ask(server, "GET", f"{PATH}/{second['id']}") == second


def test_a_drain_waits_for_what_is_made_in_the_background(tmp_path: Path) -> None:
    flags = (*SMALL, "--responses-store-path", str(tmp_path / "responses.sqlite"))
    with serving(*flags, "--shutdown-timeout", "60") as server:
        server.wait_ready()
        response = ask(server, "POST", PATH, {**LONG, "max_output_tokens": 300})
        server.process.send_signal(signal.SIGTERM)
        code, output, errors = server.wait_end()
        assert (code, "running answers" in output, "Traceback" in errors) == (0, True, False)
    with serving(*flags) as server:
        server.wait_ready()
        done = ask(server, "GET", f"{PATH}/{response['id']}")
        assert (done["status"], done["usage"]["output_tokens"]) == ("incomplete", 300)


@pytest.mark.parametrize("end", ["drain", "kill"])
def test_what_a_stop_cuts_off_has_failed_and_says_so(tmp_path: Path, end: str) -> None:
    flags = (*SMALL, "--responses-store-path", str(tmp_path / "responses.sqlite"))
    with serving(*flags, "--shutdown-timeout", "0") as server:
        server.wait_ready()
        server.signal_engine(signal.SIGSTOP)  # so that the answer cannot be complete before the end
        response = ask(server, "POST", PATH, {**LONG, "stream": False})
        if end == "kill":
            server.signal_engine(signal.SIGCONT)
            server.process.kill()
        else:
            server.process.send_signal(signal.SIGTERM)
        server.wait_end()
    with serving(*flags) as server:
        server.wait_ready()
        cut = ask(server, "GET", f"{PATH}/{response['id']}")
        assert (cut["status"], cut["error"]["code"]) == ("failed", "server_error")
        assert "stop" in cut["error"]["message"]


def test_a_file_that_is_no_store_ends_the_start_with_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    path.write_text(json.dumps({"not": "a database"}) * 100)
    with serving("--responses-store-path", str(path)) as server:
        code, output, errors = server.wait_end()
    assert (code, output) == (2, "")
    assert [line.split(":")[0] for line in errors.splitlines()] == [
        "serve",
        "move it away to begin with an empty one, or name another file",
    ]
    assert "damaged or no response store" in errors
