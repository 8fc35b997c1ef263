"""Who may open a WebSocket, and how it ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from fake_engine import Condition, FakeEngine, app_over
from served_app import port_of
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from specserve.engine.api import GenerationOutput, GenerationRequest
from specserve.handlers.limits import Limits

PATH = "/v1/responses"
CREATE = json.dumps({"type": "response.create", "input": "hi"})
PATIENCE_S = 30.0


class SlowEngine(FakeEngine):
    """Remembers which answers were closed before their end."""

    def __init__(self) -> None:
        super().__init__(pause_s=3600.0)
        self.closed = threading.Event()

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]:
        return self._watched(super().generate(request))

    async def _watched(self, outputs: AsyncGenerator[GenerationOutput, None]) -> AsyncGenerator[GenerationOutput, None]:
        try:
            async for output in outputs:
                yield output
        finally:
            self.closed.set()


@contextmanager
def serving(engine: FakeEngine | None = None, **options: Any) -> Iterator[int]:
    with port_of(app_over(engine or FakeEngine(), **options)) as port:
        yield port


def open_socket(port: int, path: str = PATH, **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}{path}", **options)


def refusal(port: int, path: str = PATH, **options: Any) -> tuple[int, Any]:
    with pytest.raises(InvalidStatus) as refused:
        open_socket(port, path, **options)
    response = refused.value.response
    return response.status_code, json.loads(response.body)["error"]["code"] if response.body else None


def first_error(socket: ClientConnection) -> dict[str, Any]:
    while True:
        message = json.loads(socket.recv(timeout=PATIENCE_S))
        if message["type"] == "error":
            return dict(message)


def last_type(socket: ClientConnection) -> str:
    while (kind := json.loads(socket.recv(timeout=PATIENCE_S))["type"]) not in (
        "error",
        "response.completed",
        "response.failed",
    ):
        pass
    return str(kind)


def wait_until(holds: Any) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_no_socket_opens_without_a_key() -> None:
    with serving(api_keys=("right",)) as port:
        for path in (PATH, "/", "/health", "/v1/chat/completions", "/docs"):
            assert refusal(port, path) == (401, "invalid_api_key")
            assert refusal(port, path, additional_headers={"Authorization": "Bearer wrong"}) == (401, "invalid_api_key")
        assert refusal(port, "/v1/other", additional_headers={"Authorization": "Bearer right"})[0] == 404
        for headers in ({"Authorization": "Bearer right"}, {"x-api-key": "right"}):
            with open_socket(port, additional_headers=headers) as socket:
                socket.send(CREATE)
                assert last_type(socket) == "response.completed"


def test_what_is_stored_over_a_socket_belongs_to_its_key() -> None:
    with serving(api_keys=("ann", "bob")) as port:
        with open_socket(port, additional_headers={"Authorization": "Bearer ann"}) as socket:
            socket.send(json.dumps({"type": "response.create", "input": "hi", "request_id": "1"}))
            assert last_type(socket) == "response.completed"
        found = [
            httpx2.get(f"http://127.0.0.1:{port}{PATH}/resp_1", headers={"Authorization": f"Bearer {key}"}).status_code
            for key in ("ann", "bob")
        ]
        assert found == [200, 404]


@pytest.mark.parametrize("path", ["/", "/health", "/v1/chat/completions", "/v1/responses/resp_1", "/v1/realtime"])
def test_other_paths_open_no_socket(path: str) -> None:
    with serving() as port:
        assert refusal(port, path) == (404, "unknown_url")


def test_a_page_of_another_server_opens_no_socket() -> None:
    with serving() as port:
        for origin in ("https://evil.example", "null", f"http://127.0.0.1:{port + 1}"):
            assert refusal(port, additional_headers={"Origin": origin}) == (403, None)
        with open_socket(port, additional_headers={"Origin": f"http://127.0.0.1:{port}"}) as socket:
            socket.send(CREATE)
            assert last_type(socket) == "response.completed"


@pytest.mark.parametrize(("state", "code"), [("loading", "server_loading"), ("draining", "server_draining")])
def test_no_socket_opens_before_the_server_is_ready_or_when_it_ends(state: Any, code: str) -> None:
    with serving(readiness=Condition(state)) as port:
        assert refusal(port) == (503, code)


def test_the_handshake_has_the_id_of_the_request() -> None:
    with serving() as port, open_socket(port, additional_headers={"X-Request-Id": "mine"}) as socket:
        assert socket.response is not None
        assert socket.response.headers["x-request-id"] == "mine"


def test_leaving_aborts_the_answer() -> None:
    engine = SlowEngine()
    with serving(engine) as port:
        with open_socket(port) as socket:
            socket.send(CREATE)
            wait_until(lambda: engine.requests)
            assert not engine.closed.is_set()
        assert engine.closed.wait(PATIENCE_S)


def test_vanishing_aborts_the_answer() -> None:
    engine = SlowEngine()
    with serving(engine) as port:
        socket = open_socket(port)
        socket.send(CREATE)
        wait_until(lambda: engine.requests)
        socket.socket.close()  # no closing handshake
        socket.socket.detach()
        socket.close_socket()
        assert engine.closed.wait(PATIENCE_S)


def test_a_message_that_is_too_large_is_refused_and_the_connection_stays() -> None:
    with serving(limits=Limits(max_body_bytes=1000)) as port, open_socket(port) as socket:
        socket.send(json.dumps({"type": "response.create", "input": "x" * 1000}))
        assert (first_error(socket)["status"]) == 413
        socket.send(CREATE)
        assert last_type(socket) == "response.completed"


def test_more_messages_than_can_wait_end_the_connection() -> None:
    engine = SlowEngine()
    with serving(engine) as port, open_socket(port) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            flood(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        assert engine.closed.wait(PATIENCE_S)


def flood(socket: ClientConnection) -> None:
    for _ in range(100):
        socket.send(CREATE)
    while True:
        socket.recv(timeout=PATIENCE_S)


def test_a_connection_that_is_too_old_says_so_and_ends() -> None:
    with serving(limits=Limits(socket_age_s=0.2)) as port, open_socket(port) as socket:
        message = first_error(socket)
        assert (message["status"], message["error"]["code"]) == (400, "websocket_connection_limit_reached")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1000


def test_a_turn_under_way_ends_before_the_connection_does() -> None:
    engine = FakeEngine(pause_s=0.1)
    with serving(engine, limits=Limits(socket_age_s=0.3)) as port, open_socket(port) as socket:
        socket.send(CREATE)
        socket.send(CREATE)
        assert last_type(socket) == "response.completed"
        assert first_error(socket)["error"]["code"] == "websocket_connection_limit_reached"


def test_turns_are_counted_with_the_requests_of_the_client() -> None:
    engine = SlowEngine()
    with serving(engine, limits=Limits(max_open_per_client=1)) as port:
        with open_socket(port) as socket, open_socket(port) as second:
            socket.send(CREATE)
            wait_until(lambda: engine.requests)
            second.send(CREATE)
            assert first_error(second)["error"]["code"] == "rate_limit_exceeded"
            assert httpx2.post(f"http://127.0.0.1:{port}{PATH}", json={"input": "hi"}).status_code == 429
        assert engine.closed.wait(PATIENCE_S)
        engine.pause_s = 0.0
        with open_socket(port) as socket:
            wait_until(lambda: turns_are_free(socket))


def turns_are_free(socket: ClientConnection) -> bool:
    socket.send(CREATE)
    return last_type(socket) == "response.completed"


def test_a_turn_has_the_time_that_the_handshake_gave() -> None:
    limited = {"X-Request-Timeout-Ms": "50"}
    with serving(SlowEngine()) as port, open_socket(port, additional_headers=limited) as socket:
        socket.send(CREATE)
        assert first_error(socket)["error"]["code"] == "deadline_exceeded"


def test_names_nobody_knows_are_refused_where_they_are_over_http() -> None:
    message = json.dumps({"type": "response.create", "input": "hi", "temprature": 1})
    with serving(limits=Limits(is_strict=True)) as port, open_socket(port) as socket:
        socket.send(message)
        assert first_error(socket)["error"]["param"] == "temprature"
    with serving() as port, open_socket(port) as socket:
        socket.send(message)
        assert last_type(socket) == "response.completed"
