"""Every rule of the stream linter finds what it is for, and nothing in a sound stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from stream_linter import frames_of, lint

Chunks = list[dict[str, Any]]
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
ERROR = {"error": {"message": "It broke.", "type": "server_error", "param": None, "code": "engine_dead"}}
CHAT_REQUEST = {
    "messages": [{"role": "user", "content": "hi"}],
    "n": 2,
    "logprobs": True,
    "top_logprobs": 1,
    "stream": True,
    "stream_options": {"include_usage": True},
}
COMPLETION_REQUEST = {
    "prompt": ["a", "b"],
    "logprobs": 1,
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}


def separate(chunks: Chunks) -> Chunks:
    """Without parts in common, so that a bug can be planted in one chunk."""
    found: Chunks = json.loads(json.dumps(chunks))
    return found


def chat_stream() -> Chunks:
    """Two choices that take turns, with log probabilities and usage at the end."""
    one = {"token": "a", "logprob": -0.5, "bytes": [97]}
    logprobs = {"content": [one | {"top_logprobs": [one]}], "refusal": None}
    chunks: Chunks = []
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"content": "a"}, {"content": "b"}, {}]
    for delta in deltas:
        for index in (0, 1):
            choice = {"index": index, "delta": delta, "finish_reason": None if delta else "stop"}
            chunks.append({"choices": [choice | ({"logprobs": logprobs} if delta.get("content") else {})]})
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "usage": None}
    return separate([*(head | chunk for chunk in chunks), head | {"choices": [], "usage": USAGE}])


def completion_stream() -> Chunks:
    """One choice for each of two prompts, with log probabilities and running usage."""
    logprobs = {"text_offset": [0], "token_logprobs": [-0.5], "tokens": ["x"], "top_logprobs": [{"x": -0.5}]}
    pieces = [
        {
            "index": index,
            "text": text,
            "logprobs": logprobs if text else None,
            "finish_reason": None if text else "length",
        }
        for text in ("x", "")
        for index in (0, 1)
    ]
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "usage": USAGE}
    return separate([*(head | {"choices": [piece]} for piece in pieces), head | {"choices": []}])


def tool_stream() -> Chunks:
    """A choice that makes two calls."""
    deltas = [
        {"role": "assistant", "content": None},
        {"tool_calls": [{"index": 0, "id": "c0", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        {"tool_calls": [{"index": 1, "id": "c1", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
        {},
    ]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return [
        head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "tool_calls"}]}
        for delta in deltas
    ]


def written(chunks: Chunks, end: str = "data: [DONE]\n\n") -> str:
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end


def choice(chunks: Chunks, at: int) -> dict[str, Any]:
    found: dict[str, Any] = chunks[at]["choices"][0]
    return found


@pytest.mark.parametrize(
    ("chunks", "path", "request_body"),
    [
        (chat_stream(), CHAT, CHAT_REQUEST),
        (completion_stream(), COMPLETIONS, COMPLETION_REQUEST),
        (tool_stream(), CHAT, {"messages": []}),
    ],
    ids=["chat", "completion", "tools"],
)
def test_a_sound_stream_has_no_findings(chunks: Chunks, path: str, request_body: dict[str, Any]) -> None:
    assert lint(written(chunks), path, request_body) == []
    assert lint(": keep-alive\n\n" + written(chunks), path, request_body) == []
    for cut in range(len(chunks)):  # an error may come at any time
        assert lint(written([*chunks[:cut], ERROR]), path, request_body) == []


def test_events_are_read_with_either_line_end_and_without_comments() -> None:
    assert frames_of("data: a\r\n\r\n: ping\r\n\r\ndata:b\n\n") == ["a", "b"]


CHAT_BUGS: dict[str, tuple[Callable[[Chunks], object], str]] = {
    "no role": (lambda c: choice(c, 1).update(delta={"content": ""}), "role: choice 1 begins without the role"),
    "role twice": (lambda c: choice(c, 2)["delta"].update(role="assistant"), "role: choice 0 tells its role twice"),
    "no finishing chunk": (lambda c: c.pop(6), "finish: choice 0 has no finishing chunk"),
    "two finishing chunks": (lambda c: c.insert(7, c[6]), "finish: choice 0 has 2 finishing chunks"),
    "content after the finish": (lambda c: c.insert(8, c[2]), "finish: choice 0 goes on after its finishing chunk"),
    "early stop reason": (lambda c: choice(c, 2).update(stop_reason="x"), "finish: choice 0 names a stop_reason"),
    "empty finish reason": (lambda c: choice(c, 2).update(finish_reason=""), "schema: ChatCompletionChunk"),
    "missing field": (lambda c: c[3].pop("created"), "schema: ChatCompletionChunk"),
    "other id": (lambda c: c[3].update(id="x"), "identity: id changes"),
    "other time": (lambda c: c[3].update(created=2), "identity: created changes"),
    "other model": (lambda c: c[3].update(model="x"), "identity: model changes"),
    "other fingerprint": (lambda c: c[3].update(system_fingerprint="x"), "identity: system_fingerprint changes"),
    "missing choice": (
        lambda c: c.__setitem__(slice(None), [x for x in c if not x["choices"] or choice([x], 0)["index"] == 0]),
        "choices: choices [1] are missing",
    ),
    "choice nobody asked for": (lambda c: choice(c, 3).update(index=7), "choices: choices [7] were not asked for"),
    "no usage": (lambda c: c.pop(), "usage: 0 chunks without choices"),
    "usage twice": (lambda c: c.append(c[-1]), "usage: 2 chunks without choices"),
    "usage too early": (lambda c: c.insert(5, c.pop()), "usage: the usage is not the last chunk"),
    "usage beside text": (lambda c: c[2].update(usage=USAGE), "usage: chunk 2 has usage"),
    "usage left out": (lambda c: c[2].pop("usage"), "usage: chunk 2 has usage null, there has to be null"),
    "wrong sum": (lambda c: c[-1].update(usage=USAGE | {"total_tokens": 9}), "usage: total_tokens is not the sum"),
    "no logprobs": (
        lambda c: [x.pop("logprobs", None) for chunk in c for x in chunk["choices"]],
        "logprobs: choice 0 lacks logprobs",
    ),
    "too many alternatives": (
        lambda c: choice(c, 2)["logprobs"]["content"][0]["top_logprobs"].append(
            choice(c, 2)["logprobs"]["content"][0]["top_logprobs"][0]
        ),
        "logprobs: choice 0 has 2 alternatives, 1 were asked for",
    ),
    "probability above one": (
        lambda c: choice(c, 2)["logprobs"]["content"][0].update(logprob=0.5),
        "logprobs: choice 0 has a wrong log probability",
    ),
}
COMPLETION_BUGS: dict[str, tuple[Callable[[Chunks], object], str]] = {
    "wrong object": (lambda c: [x.update(object="text.completion") for x in c], "schema: Completion"),
    "usage falls": (
        lambda c: c[0].update(usage={"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}),
        "usage: completion_tokens falls",
    ),
    "prompt tokens change": (
        lambda c: c[0].update(usage={"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1}),
        "usage: prompt_tokens changes",
    ),
    "running usage left out": (lambda c: c[1].update(usage=None), "usage: chunk 1 has usage null, there has to be one"),
    "lists of different lengths": (
        lambda c: choice(c, 0)["logprobs"]["tokens"].append("y"),
        "logprobs: choice 0 has parallel lists of different lengths",
    ),
    "probability above one": (
        lambda c: choice(c, 0)["logprobs"].update(token_logprobs=[1]),
        "logprobs: choice 0 has a log probability above 0",
    ),
    "offset runs back": (
        lambda c: [
            choice(c, 0)["logprobs"].update(text_offset=[5]),
            choice(c, 2).update(logprobs=choice(c, 1)["logprobs"]),
        ],
        "logprobs: choice 0 has a text_offset that runs back",
    ),
}
TOOL_BUGS: dict[str, tuple[Callable[[Chunks], object], str]] = {
    "call without an id": (
        lambda c: choice(c, 1)["delta"]["tool_calls"][0].pop("id"),
        "tool calls: choice 0: call 0 begins without its id",
    ),
    "calls out of order": (lambda c: c.pop(1), "tool calls: choice 0: call 0 begins without its id"),
    "name twice": (
        lambda c: choice(c, 2)["delta"]["tool_calls"][0].update(id="c0"),
        "tool calls: choice 0: call 0 tells its id or name twice",
    ),
    "no call": (lambda c: c.__delitem__(slice(1, 4)), "tool calls: choice 0 finishes for tool calls and made none"),
}
BUGS = [
    pytest.param(stream, path, body, *bugs[name], id=f"{stream.__name__}: {name}")
    for stream, path, body, bugs in (
        (chat_stream, CHAT, CHAT_REQUEST, CHAT_BUGS),
        (completion_stream, COMPLETIONS, COMPLETION_REQUEST, COMPLETION_BUGS),
        (tool_stream, CHAT, {"messages": []}, TOOL_BUGS),
    )
    for name in bugs
]


@pytest.mark.parametrize(("stream", "path", "body", "plant", "finding"), BUGS)
def test_a_planted_bug_is_found(
    stream: Callable[[], Chunks],
    path: str,
    body: dict[str, Any],
    plant: Callable[[Chunks], object],
    finding: str,
) -> None:
    chunks = stream()
    plant(chunks)
    assert any(found.startswith(finding) for found in lint(written(chunks), path, body)), lint(
        written(chunks), path, body
    )


@pytest.mark.parametrize("body", [CHAT_REQUEST | {"logprobs": None}, CHAT_REQUEST | {"stream_options": None}])
def test_what_nobody_asked_for_is_a_finding(body: dict[str, Any]) -> None:
    assert any("asked for" in found for found in lint(written(chat_stream()), CHAT, body))


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (written(chat_stream(), end=""), "terminator: 0 end marks"),
        (written(chat_stream(), end="data: [DONE]\n\n" * 2), "terminator: 2 end marks"),
        ("data: [DONE]\n\n" + written(chat_stream(), end=""), "terminator: the end mark is not the last event"),
        (written([*chat_stream()[:3], ERROR], end=""), "terminator: 0 end marks"),
        (written([*chat_stream()[:3], ERROR, ERROR]), "terminator: an event follows an error"),
        (written([ERROR, *chat_stream()]), "terminator: an event follows an error"),
        (written([{"error": "broken"}]), "schema: ErrorResponse"),
        (written([{"error": ERROR["error"] | {"code": "because"}}]), "schema: ErrorResponse"),
        (written(chat_stream()[:4], end="data: {oops}\n\ndata: [DONE]\n\n"), "terminator: an event is no JSON"),
        (written(chat_stream()[:4], end="data: 5\n\ndata: [DONE]\n\n"), "terminator: an event is no object"),
        (written(chat_stream())[:-1], "framing: the last event is cut off"),
        ("event: delta\n" + written(chat_stream()), "framing: an event is one line"),
        ("", "terminator: 0 end marks"),
    ],
)
def test_a_broken_frame_is_found(text: str, finding: str) -> None:
    assert any(found.startswith(finding) for found in lint(text, CHAT, CHAT_REQUEST)), lint(text, CHAT, CHAT_REQUEST)
