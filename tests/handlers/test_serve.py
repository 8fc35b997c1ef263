"""The `serve` command with real processes: start, drain, death of either process, exit codes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from running_server import RunningServer, serving, wait_gone

from specserve.handlers.serve import main

SMALL = ("--max-model-len", "512", "--num-gpu-blocks-override", "300")


def last_events(events: list[str]) -> tuple[str, dict[str, object]]:
    """The end mark and the event before it."""
    return events[-1], json.loads(events[-2])


def refusal_code(body: dict[str, dict[str, str]]) -> str:
    return body["error"]["code"]


def test_a_server_answers_while_it_loads_then_serves_and_drains_on_sigterm() -> None:
    with serving(*SMALL, "--served-model-name", "tiny", "alias") as server:
        status, body = server.first_answer()
        assert (status, refusal_code(body)) == (503, "server_loading")
        server.wait_ready()
        listed = [model["id"] for model in server.answer("GET", "/v1/models")[1]["data"]]
        assert listed == ["tiny", "alias", "specserve-demo-embedder", "specserve-demo-reranker"]
        stream = server.begin_stream()
        server.signal_engine(signal.SIGSTOP)  # so that the stream is still open when the drain begins
        server.process.send_signal(signal.SIGTERM)
        while (status := server.answer("GET", "/health")[0]) == 200:
            pass
        assert status == 503
        refused = server.request("POST", "/v1/completions", {"prompt": "x"})
        assert refused.status == 503
        assert refusal_code(json.loads(refused.read())) == "server_draining"
        assert refused.headers["connection"] == "close"
        server.signal_engine(signal.SIGCONT)
        events = stream.rest()
        assert events[-1] == "[DONE]"
        assert len(events) > 50
        code, output, errors = server.wait_end()
        assert (code, "Traceback" in errors) == (0, False)
        assert "tiny" in output
        assert f"curl http://127.0.0.1:{server.port}/v1/chat/completions" in output


def test_an_answer_that_outlasts_the_drain_is_cut_with_an_error() -> None:
    with serving(*SMALL, "--shutdown-timeout", "0.2") as server:
        server.wait_ready()
        stream = server.begin_stream()
        server.signal_engine(signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        end, error = last_events(stream.rest())
        assert (end, "error" in error) == ("[DONE]", True)
        code, output, errors = server.wait_end()
        assert (code, "Traceback" in errors) == (12, False)
        assert "--shutdown-timeout" in output


def test_a_body_that_is_still_on_its_way_is_refused_and_no_answer_that_a_drain_waits_for() -> None:
    with serving(*SMALL) as server:
        server.wait_ready()
        connection = server.begin_body("/v1/completions", b'{"prompt": "one ')
        server.process.send_signal(signal.SIGTERM)
        response = connection.getresponse()
        assert response.status == 503
        assert refusal_code(json.loads(response.read())) == "server_draining"
        code, output, _ = server.wait_end()
        assert (code, "were cut" in output) == (0, False)


def test_a_second_signal_ends_the_server_at_once() -> None:
    with serving(*SMALL) as server:
        server.wait_ready()
        server.begin_stream()
        engine = server.engine_id
        os.kill(engine, signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        while server.answer("GET", "/health")[0] == 200:
            pass
        server.process.send_signal(signal.SIGTERM)
        code, _, errors = server.wait_end()
        assert (code, "Traceback" in errors) == (143, False)
        wait_gone(engine)


def test_a_signal_while_loading_ends_the_server_cleanly() -> None:
    with serving(*SMALL) as server:
        server.first_answer()
        engine = server.engine_id
        server.process.send_signal(signal.SIGTERM)
        code, _, errors = server.wait_end()
        assert (code, "Traceback" in errors) == (0, False)
        wait_gone(engine)


def test_a_killed_engine_ends_streams_with_an_error_turns_health_red_and_ends_the_server() -> None:
    with serving(*SMALL) as server:
        server.wait_ready()
        stream = server.begin_stream(max_tokens=450)
        server.signal_engine(signal.SIGKILL)
        end, error = last_events(stream.rest())
        assert (end, error["error"]["code"]) == ("[DONE]", "engine_dead")  # type: ignore[index]
        assert health_or_none(server) in (503, None)
        code, _, errors = server.wait_end()
        assert code == 10
        assert "SIGKILL" in errors
        assert "Traceback" not in errors


def test_an_engine_that_dies_while_the_server_drains_decides_the_exit_code() -> None:
    with serving(*SMALL) as server:
        server.wait_ready()
        stream = server.begin_stream(max_tokens=450)
        server.signal_engine(signal.SIGSTOP)  # so that the stream is still open when the drain begins
        server.process.send_signal(signal.SIGTERM)
        while server.answer("GET", "/health")[0] == 200:
            pass
        server.signal_engine(signal.SIGKILL)
        assert "error" in last_events(stream.rest())[1]
        assert server.wait_end()[0] == 10


def test_sigterm_after_the_death_of_the_engine_does_not_make_it_a_clean_stop() -> None:
    with serving(*SMALL) as server:
        server.wait_ready()
        server.signal_engine(signal.SIGKILL)
        while server.answer("GET", "/health")[0] == 200:
            pass
        server.process.send_signal(signal.SIGTERM)
        assert server.wait_end()[0] == 10


def test_a_server_whose_output_nobody_reads_serves_on() -> None:
    with serving(*SMALL) as server:
        assert server.process.stdout is not None
        server.process.stdout.close()
        server.process.stdout = None  # `communicate` must not look for it
        server.wait_ready()
        assert server.answer("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1})[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.wait_end()[0] == 0


def test_a_hung_engine_is_noticed_and_has_an_exit_code_of_its_own() -> None:
    with serving(*SMALL, "--engine-watchdog", "1") as server:
        server.wait_ready()
        stream = server.begin_stream()
        server.signal_engine(signal.SIGSTOP)
        assert "error" in last_events(stream.rest())[1]
        assert server.wait_end()[0] == 11


def test_killing_the_api_process_leaves_no_orphan() -> None:
    with serving(*SMALL) as server:
        server.wait_ready()
        server.begin_stream()
        engine = server.engine_id
        server.process.kill()
        wait_gone(engine)


def test_a_damaged_model_has_two_lines_and_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    with serving(str(tmp_path)) as server:
        code, _, errors = server.wait_end()
    assert code == 3
    lines = errors.splitlines()
    assert len(lines) == 2
    assert str(tmp_path) in lines[0]


def test_a_missing_model_has_two_lines_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/nowhere/model"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "/nowhere/model does not exist" in lines[0]


def health_or_none(server: RunningServer) -> int | None:
    """None when the server has ended already."""
    try:
        return server.answer("GET", "/health")[0]
    except (OSError, http.client.HTTPException):
        return None


@pytest.mark.parametrize(
    ("arguments", "cause", "remedy"),
    [
        (["--prot", "1"], "--prot", "--port"),
        (["--port", "eighty"], "eighty", "--port"),
        (["one-model", "another"], "another is one word too many", "one model"),
        (["--config", "missing.yaml"], "missing.yaml", "path"),
        (["--host", "no.such.host.invalid", "--port", "0"], "no.such.host.invalid", "127.0.0.1"),
        (["--port", "0", "--chat-template", "{% for m in messages %}{{ m.content"], "line 1", "repair"),
        (["--port", "0", "--tool-call-parser", "hermez"], "hermez", "hermes"),
        (["--port", "0", "--reasoning-parser", "qwen33"], "qwen33", "qwen3"),
        (["--port", "0", "--tool-parser-plugin", "missing.py"], "missing.py", "repair"),
    ],
)
def test_a_wrong_command_line_has_two_lines_and_exit_code_2(
    arguments: list[str], cause: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert cause in lines[0]
    assert remedy in lines[1]


def test_a_port_in_use_is_named_with_another_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 4
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert str(port) in lines[0]
    assert "--port" in lines[1]


def test_the_command_starts_without_torch_or_a_web_framework(tmp_path: Path) -> None:
    script = (
        "import sys, specserve.handlers.serve; print([m for m in ('torch', 'fastapi', 'uvicorn') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_application_imports_no_torch() -> None:
    script = "import sys, specserve.handlers.app, specserve.handlers.supervisor; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
