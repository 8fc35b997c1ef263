"""Sessions of coding agents, written by hand after the shape of their traffic: every turn sends back what came before.

Agents that speak Anthropic's Messages are in `tests/handlers/anthropic/test_agents.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from demo_server import KEY, MODEL
from linters import lint_stream as findings_in
from scripted_model import ScriptedServer, call, reciting

PATCH = "*** Begin Patch\n*** Update File: a.py\n@@\n-1\n+2\n*** End Patch"
DONE = "The file is changed."
SAFETY_CAP = 65_535
"""More than the context has: agents send it to say that they mind no length."""


def parameters(*names: str) -> dict[str, Any]:
    properties = {name: {"type": "string"} for name in names}
    return {"type": "object", "properties": properties, "required": list(names), "additionalProperties": False}


FUNCTIONS = {
    "bash": parameters("command"),
    "edit": parameters("path", "old", "new"),
    "glob": parameters("pattern"),
    "grep": parameters("pattern", "path"),
    "list": parameters("path"),
    "read": parameters("path"),
    "task": parameters("description", "prompt"),
    "todowrite": {"type": "object", "properties": {"todos": {"type": "array", "items": parameters("content")}}},
    "webfetch": parameters("url"),
    "write": parameters("path", "content"),
}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    two = "\n".join(call("read", path=path)[0] for path in ("a.py", "b.py"))
    # The prompt is looked through from the last user message on, so what came last stands first.
    with reciting(
        [
            ("Success. Updated a.py", [DONE]),
            ("content of a.py", call("apply_patch", input=PATCH)),
            ("Change a.py", call("exec_command", cmd="cat a.py")),
            ("content of b.py", [DONE]),
            ("Compare a.py with b.py", [f"I read both.\n{two}"]),
        ]
    ) as started:
        yield started


@pytest.fixture
def http(server: ScriptedServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.root, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
        yield client


def streamed(http: httpx2.Client, path: str, body: dict[str, Any]) -> tuple[list[dict[str, Any]], httpx2.Headers]:
    """The data of every event, of a stream that keeps the rules."""
    reply = http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    assert findings_in(reply.text, path, body) == []
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"], reply.headers


# ---- over Responses, keeping nothing on the server


def responses_turn(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "model": MODEL,
        "instructions": "You are a coding agent.",
        "input": items,
        "tools": [
            {"type": "function", "name": "exec_command", "strict": False, "parameters": parameters("cmd")},
            {
                "type": "custom",
                "name": "apply_patch",
                "description": "Edits files.",
                "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
            },
            {"type": "web_search", "external_web_access": False},
            {"type": "tool_of_tomorrow", "name": "telepathy", "wave_length": 3},
            {"type": "namespace", "name": "mcp", "tools": [{"type": "function", "name": "find"}]},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199-session",
        "text": {"verbosity": "medium"},
    }


def output_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items as an agent keeps them: from the events that end them, without what only the server knows."""
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == events[-1]["response"]["output"]
    return [{name: value for name, value in item.items() if name not in ("id", "status")} for item in done]


def test_a_session_over_responses_replays_its_items_without_ids(http: httpx2.Client, server: ScriptedServer) -> None:
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Change a.py"}]}
    rules = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Sandboxed."}]}
    thought = {"type": "reasoning", "summary": [], "content": None, "encrypted_content": "gAAAA-of-another-server"}
    items: list[dict[str, Any]] = [rules, said]

    events, headers = streamed(http, "/v1/responses", responses_turn(items))
    assert headers["x-skipped-tools"].split(",")[0] == "web_search"
    assert "telepathy" in headers["x-skipped-tools"] or "tool_of_tomorrow" in headers["x-skipped-tools"]
    (shell,) = output_of(events)
    assert (shell["type"], shell["name"], json.loads(shell["arguments"])) == (
        "function_call",
        "exec_command",
        {"cmd": "cat a.py"},
    )
    result = {"type": "function_call_output", "call_id": shell["call_id"], "output": "content of a.py"}
    items += [thought, shell, result]

    events, _ = streamed(http, "/v1/responses", responses_turn(items))
    (patch,) = output_of(events)
    assert (patch["type"], patch["name"], patch["input"]) == ("custom_tool_call", "apply_patch", PATCH)
    deltas = [event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta"]
    assert "".join(deltas) == PATCH
    items += [
        patch,
        {"type": "custom_tool_call_output", "call_id": patch["call_id"], "output": "Success. Updated a.py"},
    ]

    events, _ = streamed(http, "/v1/responses", responses_turn(items))
    (answer,) = output_of(events)
    assert [part["text"] for part in answer["content"]] == [DONE]
    shown = server.engine.prompts[-1]
    assert all(text in shown for text in ("Sandboxed.", "Change a.py", "cat a.py", "content of a.py", "Begin Patch"))
    assert "of-another-server" not in shown
    assert shown.startswith(server.engine.prompts[0][: len(server.engine.prompts[0]) - 40]), "the cache would miss it"


def test_a_probe_with_an_empty_input_is_answered(http: httpx2.Client) -> None:
    for empty in ("", []):
        reply = http.post("/v1/responses", json={"model": MODEL, "input": empty, "max_output_tokens": 16})
        assert (reply.status_code, reply.json()["status"]) == (200, "completed")


# ---- over Chat Completions


def chat_turn(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [{"role": "system", "content": "You are a coding agent."}, *messages],
        "tools": [
            {"type": "function", "function": {"name": name, "description": f"Does {name}.", "parameters": schema}}
            for name, schema in FUNCTIONS.items()
        ],
        "tool_choice": "auto",
        "max_tokens": SAFETY_CAP,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def message_of(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The message put together, with calls by their index as the wire has them."""
    text, calls = "", {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            for piece in choice["delta"].get("tool_calls") or []:
                made = calls.setdefault(piece["index"], {"id": "", "name": "", "arguments": ""})
                made["id"] += piece.get("id") or ""
                made["name"] += piece["function"].get("name") or ""
                made["arguments"] += piece["function"].get("arguments") or ""
    made = [
        {"id": each["id"], "type": "function", "function": {"name": each["name"], "arguments": each["arguments"]}}
        for _, each in sorted(calls.items())
    ]
    return {"role": "assistant", "content": text, "tool_calls": made}


@pytest.mark.parametrize("swaps", [False, True], ids=["results in order", "results as they came"])
def test_a_session_over_chat_sends_parallel_results_back(
    http: httpx2.Client, server: ScriptedServer, swaps: bool
) -> None:
    question = {"role": "user", "content": [{"type": "text", "text": "Compare a.py with b.py"}]}
    chunks, headers = streamed(http, "/v1/chat/completions", chat_turn([question]))
    assert int(headers["x-effective-max-tokens"]) < SAFETY_CAP
    message = message_of(chunks)
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert reasons == ["tool_calls"]
    assert message["content"].strip() == "I read both."
    paths = [json.loads(each["function"]["arguments"])["path"] for each in message["tool_calls"]]
    assert paths == ["a.py", "b.py"]
    results = [
        {"role": "tool", "tool_call_id": each["id"], "content": [{"type": "text", "text": f"content of {path}"}]}
        for each, path in zip(message["tool_calls"], paths, strict=True)
    ]
    if swaps:
        results.reverse()
    thought = {"reasoning_content": "I need both files."}
    server.engine.script = [("content of b.py", [DONE])]
    chunks, _ = streamed(http, "/v1/chat/completions", chat_turn([question, message | thought, *results]))
    assert message_of(chunks) == {"role": "assistant", "content": DONE, "tool_calls": []}
    shown = server.engine.prompts[-1]
    assert "content of a.py" in shown
    assert all(f'"name": "{name}"' in shown for name in FUNCTIONS)


def test_an_agent_that_writes_its_calls_into_the_text_gets_them_as_text(http: httpx2.Client) -> None:
    """No tools are sent; the system message explains tags, environment details come as parts of their own."""
    parts = [{"type": "text", "text": "<task>Greet</task>"}, {"type": "text", "text": "<environment_details/>"}]
    written = "<attempt_completion>\n<result>Hello</result>\n</attempt_completion>"
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "system", "content": "Use tags."}, {"role": "user", "content": parts}],
        "temperature": 0,
        "max_tokens": SAFETY_CAP,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with reciting([("<task>", [written])]) as server:
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx2.Client(base_url=server.root, headers=headers) as client:
            chunks, _ = streamed(client, "/v1/chat/completions", body)
    assert message_of(chunks)["content"] == written
    assert chunks[-1]["usage"]["completion_tokens"] > 0
