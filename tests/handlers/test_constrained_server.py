"""Constrained answers of the real server and its demo model, through the official client and over plain HTTP."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from openai import OpenAI
from running_server import RunningServer, Stream, serving
from test_grammars import HOSTILE

MODEL = "specserve-demo"
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "population": {"type": "integer", "minimum": 0, "maximum": 99_999_999},
        "tags": {"type": "array", "items": {"enum": ["large", "small", "old"]}, "maxItems": 3},
        "founded": {"type": "string", "format": "date"},
    },
    "required": ["city", "population", "tags", "founded"],
    "additionalProperties": False,
}
FIELD_OF = {"json_schema": "json", "regex": "regex", "grammar": "grammar", "structural_tag": "structural_tag"}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serving("--disable-uvicorn-access-log") as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> OpenAI:
    return OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0)


def test_a_strict_schema_is_followed_by_every_choice_that_stops(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Describe a city."}],
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}},
        temperature=1.5,
        max_tokens=200,
        n=8,
    )
    stopped = [choice.message.content for choice in reply.choices if choice.finish_reason == "stop"]
    assert stopped
    for text in stopped:
        jsonschema.validate(json.loads(text or ""), SCHEMA)


def test_a_stream_says_the_same(client: OpenAI) -> None:
    wanted: dict[str, Any] = {
        "model": MODEL,
        "prompt": "A date: ",
        "temperature": 0,
        "max_tokens": 60,
        "extra_body": {"structured_outputs": {"regex": r"\d{4}-\d{2}-\d{2}( or \d{4}-\d{2}-\d{2}){2}"}},
    }
    whole = client.completions.create(**wanted).choices[0]
    pieces = [chunk.choices[0] for chunk in client.completions.create(**wanted, stream=True)]
    assert whole.finish_reason == "stop"
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}( or \d{4}-\d{2}-\d{2}){2}", whole.text)
    assert "".join(piece.text for piece in pieces) == whole.text
    assert pieces[-1].finish_reason == "stop"


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    ("fields", "pattern", "reason"),
    [
        ({"guided_choice": ["yes", "no"]}, "yes|no", "stop"),
        ({"structured_outputs": {"regex": "[0-9]{3}-[a-z]{2}"}}, "[0-9]{3}-[a-z]{2}", "stop"),
        ({"structured_outputs": {"regex": "[0-9]{3}"}, "stop": ["zzz"]}, "[0-9]{3}", "stop"),
        ({"structured_outputs": {"regex": "[0-9]{300}"}}, "[0-9]+", "length"),
    ],
    ids=["choice", "regex", "regex beside a stop string", "regex cut by max_tokens"],
)
def test_a_complete_grammar_ends_the_answer_streamed_and_whole(
    server: RunningServer, path: str, fields: dict[str, Any], pattern: str, reason: str, n: int
) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}]} if "chat" in path else {"prompt": "Hi"}
    body |= {"max_tokens": 20, "temperature": 0, "n": n, "seed": 3, **fields}
    status, whole = server.answer("POST", path, body)
    assert status == 200, whole
    stream = Stream(server.request("POST", path, body | {"stream": True}), path, body | {"stream": True})
    pieces = [json.loads(event)["choices"][0] for event in (stream.first, *stream.rest()) if event != "[DONE]"]
    for choice in whole["choices"]:
        text = choice["message"]["content"] if "chat" in path else choice["text"]
        assert (choice["finish_reason"], choice["stop_reason"]) == (reason, None)
        assert re.fullmatch(pattern, text)
        mine = [piece for piece in pieces if piece["index"] == choice["index"]]
        parts = [piece["delta"].get("content") if "delta" in piece else piece["text"] for piece in mine]
        assert "".join(part or "" for part in parts) == text
        assert (mine[-1]["finish_reason"], mine[-1]["stop_reason"]) == (reason, None)


ASKED = {"type": "object", "properties": {"location": {"enum": ["Oslo", "Rome"]}, "days": {"type": "integer"}}}
FORECAST: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": ASKED | {"required": ["location", "days"], "additionalProperties": False},
    },
}


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_strict_tools_are_called_by_their_schema_without_being_forced(client: OpenAI, temperature: float) -> None:
    calls = []
    for number in range(4):
        reply = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "What's the weather in Boston?"}],
            tools=[FORECAST],  # type: ignore[list-item]
            temperature=temperature,
            max_tokens=150,
            n=2,
            seed=number,
        )
        for choice in reply.choices:
            if choice.finish_reason == "tool_calls":
                calls += choice.message.tool_calls or []
    assert calls
    for call in calls:
        assert call.type == "function"
        jsonschema.validate(json.loads(call.function.arguments), FORECAST["function"]["parameters"])


def test_beside_tools_a_response_format_leaves_a_call_or_the_form(client: OpenAI) -> None:
    for number in range(6):
        (choice,) = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "What's the weather in Boston?"}],
            tools=[FORECAST],  # type: ignore[list-item]
            response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}},
            temperature=1.5 * (number > 0),
            max_tokens=200,
            seed=number,
        ).choices
        if choice.finish_reason == "stop":
            jsonschema.validate(json.loads(choice.message.content or ""), SCHEMA)
        elif choice.finish_reason == "tool_calls":
            assert choice.message.content is None


@pytest.mark.parametrize("tools", [[], [FORECAST]], ids=["answer", "forced call"])
def test_what_is_thought_on_demand_comes_before_a_constrained_answer(
    server: RunningServer, tools: list[dict[str, Any]]
) -> None:
    """The demo model's template opens the reasoning for those who ask for it; it ends where the form begins."""
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": "What is 2 plus 3?"}],
        "chat_template_kwargs": {"enable_thinking": True},
        "max_tokens": 200,
        "temperature": 0,
    }
    wanted = {"tools": tools, "tool_choice": "required"} if tools else {"guided_choice": ["five", "six"]}
    status, reply = server.answer("POST", "/v1/chat/completions", body | wanted)
    assert status == 200, reply
    (choice,) = reply["choices"]
    assert choice["message"]["reasoning"]
    assert "</think>" not in choice["message"]["reasoning"]
    if choice["finish_reason"] == "length":
        return
    if tools:
        (call, *_) = choice["message"]["tool_calls"]
        jsonschema.validate(json.loads(call["function"]["arguments"]), FORECAST["function"]["parameters"])
    else:
        assert choice["message"]["content"] in ("five", "six")


@pytest.mark.parametrize("budget", [0, 3])
@pytest.mark.parametrize("wanted", [{}, {"guided_choice": ["five", "six"]}, {"n": 3, "temperature": 1, "seed": 1}])
def test_a_thought_is_no_longer_than_its_budget(server: RunningServer, budget: int, wanted: dict[str, Any]) -> None:
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": "What is 2 plus 3?"}],
        "chat_template_kwargs": {"enable_thinking": True},
        "thinking_token_budget": budget,
        "max_tokens": 60,
        "temperature": 0,
    }
    status, reply = server.answer("POST", "/v1/chat/completions", body | wanted)
    assert status == 200, reply
    for choice in reply["choices"]:
        assert choice["message"]["content"]
        assert "</think>" not in choice["message"]["content"]
        assert bool(choice["message"].get("reasoning")) is (budget > 0)
    num_choices = len(reply["choices"])
    num_tokens = reply["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert num_tokens <= (budget + 1) * num_choices, "with the mark behind each thought"
    status, free = server.answer("POST", "/v1/chat/completions", body | wanted | {"thinking_token_budget": -1})
    assert status == 200, free


def test_hostile_constraints_disturb_nobody(server: RunningServer) -> None:
    def body(fields: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": "Hello", "max_tokens": 5, **fields}

    outcomes: dict[str, tuple[int, Any]] = {}

    def attack() -> None:
        for name, (kind, source) in HOSTILE.items():
            value = json.loads(source) if kind == "choice" else source
            field = FIELD_OF.get(kind, kind)
            outcomes[name] = server.answer("POST", "/v1/completions", body({"structured_outputs": {field: value}}))

    attacker = threading.Thread(target=attack)
    attacker.start()
    num_answers = 0
    while attacker.is_alive():
        status, answer = server.answer("POST", "/v1/completions", body({"guided_choice": ["yes", "no"]}))
        assert (status, answer["choices"][0]["text"]) in ((200, "yes"), (200, "no"))
        num_answers += 1
        attacker.join(timeout=0.1)
    assert num_answers > 5
    assert {status for status, _ in outcomes.values()} == {200, 400}
    assert all(answer["error"]["param"] for status, answer in outcomes.values() if status == 400)
    assert server.answer("GET", "/health")[0] == 200
