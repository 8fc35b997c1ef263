"""One server whose requests are answered by three processes, over one engine and one response store."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running_server import RunningServer, command_line, serving, wait_gone

from specserve.handlers.api_processes import settled
from specserve.handlers.demo import checkpoint_path
from specserve.handlers.flags import UsageError
from specserve.handlers.serve import main
from specserve.handlers.settings import ServerSettings

COUNT = ("--api-server-count", "3")
MODEL = str(checkpoint_path())
"""Named, it comes without the other models of the demo."""
CRASHED, HUNG, DRAIN_EXCEEDED = 10, 11, 12


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serving(MODEL, *COUNT) as started:
        wait_ready(started)
        yield started


def wait_ready(server: RunningServer) -> None:
    """Until all have heard of it: they may be asked in any order."""
    server.wait_ready()
    while not all(server.answer("GET", "/health")[0] == 200 for _ in range(16)):
        pass


def children(server: RunningServer) -> list[int]:
    """The further API processes."""
    found = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(child) for child in found if "handlers.serve" in command_line(int(child))]


def sockets_of(process_id: int) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{process_id}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(descriptor))
    return found


def num_connections(process_id: int, port: int) -> int:
    """Open connections with clients."""
    own = sockets_of(process_id)
    lines = [line.split() for line in Path(f"/proc/{process_id}/net/tcp").read_text().splitlines()[1:]]
    return sum(
        int(line[1].split(":")[1], 16) == port and line[3] == "01" and f"socket:[{line[9]}]" in own for line in lines
    )


def test_all_of_them_answer_and_with_the_same_words(server: RunningServer) -> None:
    body = {"prompt": "one two", "max_tokens": 8, "temperature": 0}
    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(lambda _: server.answer("POST", "/v1/completions", body), range(24)))
    assert {status for status, _ in found} == {200}
    assert len({answer["choices"][0]["text"] for _, answer in found}) == 1
    streams = [server.begin_stream(400) for _ in range(24)]
    ids = [server.process.pid, *children(server)]
    assert len(ids) == 3
    assert sum(num_connections(one, server.port) > 0 for one in ids) >= 2
    for stream in streams:
        assert stream.rest()[-1] == "[DONE]"


def test_a_response_that_one_keeps_is_found_by_all(server: RunningServer) -> None:
    status, response = server.answer("POST", "/v1/responses", {"input": "My name is Ann.", "max_output_tokens": 8})
    assert status == 200
    path = f"/v1/responses/{response['id']}"
    for _ in range(12):
        status, found = server.answer("GET", path)
        assert (status, found["output"]) == (200, response["output"])
    status, _ = server.answer(
        "POST", "/v1/responses", {"input": "And?", "previous_response_id": response["id"], "max_output_tokens": 8}
    )
    assert status == 200
    assert server.answer("DELETE", path)[0] == 200
    assert {server.answer("GET", path)[0] for _ in range(12)} == {404}


def test_what_only_one_process_could_show_is_refused(server: RunningServer) -> None:
    status, answer = server.answer("POST", "/v1/responses", {"input": "Hello", "background": True})
    assert (status, answer["error"]["param"]) == (400, "background")
    assert "--api-server-count" in answer["error"]["message"]


def test_a_drain_waits_for_the_answers_of_all() -> None:
    with serving(MODEL, *COUNT) as server:
        wait_ready(server)
        others = children(server)
        streams = [server.begin_stream(300) for _ in range(12)]
        server.process.send_signal(signal.SIGTERM)
        assert {stream.rest()[-1] for stream in streams} == {"[DONE]"}
        assert server.wait_end()[0] == 0
        assert not any(command_line(other) for other in others)


def test_answers_that_outlast_the_drain_are_cut_in_all() -> None:
    with serving(MODEL, *COUNT, "--shutdown-timeout", "0.3") as server:
        wait_ready(server)
        streams = [server.begin_stream(1800) for _ in range(12)]
        server.process.send_signal(signal.SIGTERM)
        for stream in streams:
            *_, error, done = stream.rest()
            assert ("error" in error, done) == (True, "[DONE]")
        assert server.wait_end()[0] == DRAIN_EXCEEDED


def test_a_dead_engine_ends_the_streams_of_all_and_the_server() -> None:
    with serving(MODEL, *COUNT) as server:
        wait_ready(server)
        others = children(server)
        streams = [server.begin_stream(1800) for _ in range(12)]
        server.signal_engine(signal.SIGKILL)
        for stream in streams:
            *_, error, done = stream.rest()
            assert ("error" in error, done) == (True, "[DONE]")
        assert server.wait_end()[0] == CRASHED
        assert not any(command_line(other) for other in others)


def test_a_hung_engine_is_noticed_by_whoever_waits_for_it() -> None:
    with serving(MODEL, *COUNT, "--engine-watchdog", "1") as server:
        wait_ready(server)
        streams = [server.begin_stream(1800) for _ in range(12)]
        server.signal_engine(signal.SIGSTOP)
        for stream in streams:
            assert stream.rest()[-1] == "[DONE]"
        assert server.wait_end()[0] == HUNG


def test_without_one_of_them_the_server_ends_and_says_so() -> None:
    with serving(MODEL, *COUNT) as server:
        wait_ready(server)
        engine, (first, second) = server.engine_id, children(server)
        os.kill(first, signal.SIGKILL)
        code, _, errors = server.wait_end()
        assert code == CRASHED
        assert f"process id {first}" in errors
        wait_gone(engine)
        assert not command_line(second)


def test_killing_the_first_leaves_no_orphan() -> None:
    with serving(MODEL, *COUNT) as server:
        wait_ready(server)
        engine, others = server.engine_id, children(server)
        server.process.kill()
        server.process.wait()
        for one in (engine, *others):
            wait_gone(one)


def test_limits_that_one_process_counts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COUNT, "--max-requests-per-client", "4"]) == 2
    assert "--max-requests-per-client" in capsys.readouterr().err


def test_models_are_not_left_to_their_first_request() -> None:
    late = ServerSettings(served_model_name=("late",), load_on_first_use=True)
    found = settled(ServerSettings(api_server_count=2, models=(late, ServerSettings())))
    assert [model.load_on_first_use for model in found.served] == [False, False]
    assert "late" in found.notices[0]
    demo = settled(ServerSettings(api_server_count=2))
    assert [model.load_on_first_use for model in demo.served] == [False] * 3
    assert not settled(ServerSettings(api_server_count=2, model="x", load_on_first_use=True)).load_on_first_use
    alone = ServerSettings(models=(late,))
    assert settled(alone) is alone
    with pytest.raises(UsageError, match="--lora-dir"):
        settled(ServerSettings(api_server_count=2, lora_dir=("adapters",)))
    with pytest.raises(UsageError, match="2"):
        settled(ServerSettings(api_server_count=2, max_requests_per_client=1))
