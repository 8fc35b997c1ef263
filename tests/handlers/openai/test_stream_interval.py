"""Streams with so many tokens a chunk say the same as any other, in fewer chunks."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from fake_engine import FakeEngine, app_over, client_of

ANSWER = '<think>\nwhy not\n</think>\n\nSee: <tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "f"}}]
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS}
BODIES = {"/v1/chat/completions": CHAT, "/v1/completions": {"prompt": "Hi"}}


async def chunks_of(client: httpx2.AsyncClient, path: str, fields: dict[str, Any]) -> list[dict[str, Any]]:
    body = BODIES[path] | {"stream": True, "max_tokens": 100, "return_token_ids": True} | fields
    reply = await client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return [json.loads(frame[6:]) for frame in reply.text.split("\n\n") if frame.startswith("data: {")]


def added_up(chunks: list[dict[str, Any]], index: int) -> tuple[str, str, str, list[int], list[str]]:
    """Text, reasoning, arguments, token ids and finish reasons of one choice."""
    text = thought = arguments = ""
    tokens: list[int] = []
    ends = []
    for choice in (choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index):
        delta = choice.get("delta", {"content": choice.get("text")})
        text += delta.get("content") or ""
        thought += delta.get("reasoning") or ""
        arguments += "".join(call["function"].get("arguments") or "" for call in delta.get("tool_calls", []))
        tokens += choice.get("token_ids") or []
        ends += [choice["finish_reason"]] if choice["finish_reason"] else []
    return text, thought, arguments, tokens, ends


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("fields", [{}, {"n": 2}, {"logprobs": None}], ids=["one", "two choices", "plain"])
async def test_the_same_comes_in_fewer_chunks(path: str, fields: dict[str, Any]) -> None:
    async with client_of(app_over(FakeEngine(lambda request: ANSWER))) as client:
        every = await chunks_of(client, path, fields)
        some = await chunks_of(client, path, fields | {"stream_interval": 5})
        all_of_it = await chunks_of(client, path, fields | {"stream_interval": 1000})
    for index in range(fields.get("n", 1)):
        assert added_up(some, index) == added_up(every, index) == added_up(all_of_it, index)
        assert added_up(every, index)[4]
    assert len(all_of_it) < len(some) < len(every)
    if path == "/v1/completions" and "n" not in fields:
        counts = [len(chunk["choices"][0].get("token_ids") or []) for chunk in some if chunk["choices"]]
        assert counts[0] == 1
        assert set(counts[1:-2]) == {5}, "then the rest, and the end"
