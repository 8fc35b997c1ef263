"""The real server with keys and values of 8 bits, as a user starts it."""

from __future__ import annotations

import signal
from typing import Any

from running_server import RunningServer, serving

QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
LONG = {"prompt": "one two three " * 100, "max_tokens": 30, "temperature": 0, "ignore_eos": True}


def text_of(server: RunningServer, body: dict[str, Any]) -> tuple[str, int]:
    """The text of an answer and how much of its prompt was cached."""
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    status, answer = server.answer("POST", path, body)
    assert status == 200, answer
    choice = answer["choices"][0]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return text, answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_answers_are_those_of_the_model_and_a_cached_prompt_changes_nothing() -> None:
    with serving("--kv-cache-dtype", "int8", "--kv-cache-memory-bytes", "16M") as server:
        server.wait_ready()
        assert "Paris" in text_of(server, QUESTION)[0]
        cold, cold_cached = text_of(server, LONG)
        warm, warm_cached = text_of(server, LONG)
        assert warm_cached > cold_cached
        assert warm == cold
        server.process.send_signal(signal.SIGTERM)
        code, output, told = server.wait_end()
        assert code == 0
        assert "KV cache in int8: " in output + told


def test_8_bit_floats_on_a_cpu_stop_the_start_with_the_way_out() -> None:
    with serving("--kv-cache-dtype", "fp8", "--device", "cpu") as server:
        code, output, told = server.wait_end()
        assert code == 3
        assert "use --kv-cache-dtype int8" in output + told
