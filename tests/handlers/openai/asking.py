"""Completions over any engine, streamed and whole; a stream is put together as a client does it."""

from __future__ import annotations

import json
from typing import Any

from fake_engine import app_over, client_of

PATH = "/v1/completions"


async def ask(engine: Any, body: dict[str, Any], *, path: str = PATH, **options: Any) -> dict[str, Any]:
    """The whole answer, after checking that the streamed one adds up to the same."""
    async with client_of(app_over(engine, **options)) as client:
        reply = await client.post(path, json=body)
        assert reply.status_code == 200, reply.text
        whole: dict[str, Any] = reply.json()
        if not body.get("use_beam_search") and not body.get("prompt_logprobs") and path == PATH:
            options = {"stream_options": {"include_usage": True}}
            if body.get("best_of", body.get("n", 1)) == body.get("n", 1):
                streamed = await client.post(path, json=body | {"stream": True} | options)
                assert streamed.status_code == 200, streamed.text
                assert added_up(streamed.text) == comparable(whole)
    return whole | {"headers": dict(reply.headers)}


async def refusal(engine: Any, body: dict[str, Any], *, path: str = PATH, **options: Any) -> tuple[str, str]:
    """Code and param."""
    async with client_of(app_over(engine, **options)) as client:
        reply = await client.post(path, json=body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    return error["code"], error["param"]


def added_up(stream: str) -> dict[str, Any]:
    frames = [frame.removeprefix("data: ") for frame in stream.split("\n\n") if frame]
    assert frames.pop() == "[DONE]"
    *chunks, last = [json.loads(frame) for frame in frames]
    assert last["choices"] == []
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        assert chunk["usage"] is None
        (piece,) = chunk["choices"]
        choice = choices.setdefault(piece["index"], {"text": "", "logprobs": None, "finish_reason": None})
        assert choice["finish_reason"] is None, "nothing follows the finishing piece"
        choice["text"] += piece["text"]
        choice["finish_reason"] = piece["finish_reason"]
        if piece["logprobs"] is not None:
            choice["logprobs"] = choice["logprobs"] or {name: [] for name in piece["logprobs"]}
            for name, entries in piece["logprobs"].items():
                choice["logprobs"][name] += entries
    usage = last["usage"] | {"prompt_tokens_details": None}
    return {"choices": [choices[index] for index in sorted(choices)], "usage": usage}


def comparable(whole: dict[str, Any]) -> dict[str, Any]:
    """Cached tokens differ: the second request finds what the first one computed."""
    names = ("text", "logprobs", "finish_reason")
    usage = whole["usage"] | {"prompt_tokens_details": None}
    return {"choices": [{name: choice[name] for name in names} for choice in whole["choices"]], "usage": usage}
