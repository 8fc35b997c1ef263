"""A `serve` process as a user starts it, for tests that pull its plugs."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stream_linter import lint

PATIENCE_S = 60.0
"""Nothing here is a measurement: a busy machine may be slow, a broken server never arrives."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stream:
    """An answer under way."""

    def __init__(self, response: http.client.HTTPResponse, path: str, body: dict[str, Any]) -> None:
        self.response = response
        self._path, self._body = path, body
        self._text = b""
        self.first = self._next_event()

    def _next_event(self) -> str | None:
        while line := self.response.readline():
            self._text += line
            if line.startswith(b"data: "):
                return line[6:].decode().strip()
        return None

    def rest(self) -> list[str]:
        """The other events, up to the end of the stream, which has to keep the rules."""
        events = []
        while (event := self._next_event()) is not None:
            events.append(event)
        assert lint(self._text.decode(), self._path, self._body) == []
        return events

    def leave(self) -> None:
        self.response.close()


class RunningServer:
    def __init__(self, *flags: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "specserve.handlers.serve", "--port", str(self.port), *flags]
        # A pipe that nobody reads would fill up and stop the server.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self._open: list[http.client.HTTPConnection] = []

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        self._open.append(connection)
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        return connection.getresponse()

    def begin_body(self, path: str, piece: bytes) -> http.client.HTTPConnection:
        """A request whose body begins and does not go on."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        self._open.append(connection)
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(piece)
        self.answer("GET", "/version")  # answered after the piece was read
        return connection

    def answer(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        response = self.request(method, path, body)
        content = response.read()
        return response.status, json.loads(content) if content else None

    def first_answer(self) -> tuple[int, Any]:
        """What the port says as soon as it can be reached."""
        limit = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit:
            try:
                return self.answer("GET", "/health")
            except ConnectionRefusedError:
                time.sleep(0.01)
        raise AssertionError("the port never opened")

    def wait_ready(self) -> None:
        limit = time.monotonic() + PATIENCE_S
        while self.first_answer()[0] != 200:
            assert self.process.poll() is None, self.wait_end()
            assert time.monotonic() < limit, "the server did not get ready"
            time.sleep(0.02)

    def begin_stream(self, max_tokens: int = 300) -> Stream:
        """A completion that has begun and goes on for `max_tokens`."""
        body = {"prompt": "one two", "max_tokens": max_tokens, "ignore_eos": True, "stream": True}
        return Stream(self.request("POST", "/v1/completions", body), "/v1/completions", body)

    @property
    def engine_id(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(int(child) for child in children if "engine.start" in command_line(int(child)))

    def signal_engine(self, number: signal.Signals) -> None:
        os.kill(self.engine_id, number)

    def wait_end(self) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        output, _ = self.process.communicate(timeout=PATIENCE_S)
        self._errors.seek(0)
        return self.process.returncode, output, self._errors.read()

    def close(self) -> None:
        for connection in self._open:
            connection.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self._errors.close()


def command_line(process_id: int) -> str:
    try:
        return Path(f"/proc/{process_id}/cmdline").read_text()
    except OSError:
        return ""


def wait_gone(process_id: int) -> None:
    """Until the process runs no more; the engine is nobody's child once its parent is dead."""
    limit = time.monotonic() + PATIENCE_S
    while command_line(process_id):
        assert time.monotonic() < limit, f"process {process_id} is an orphan"
        time.sleep(0.01)


@contextmanager
def serving(*flags: str) -> Iterator[RunningServer]:
    server = RunningServer(*flags)
    try:
        yield server
    finally:
        server.close()
