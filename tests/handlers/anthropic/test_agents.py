"""What coding agents send is answered, with every turn of a session, and nothing of it is called unknown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agent_requests import HEADERS, REQUESTS, TOOLS
from fake_engine import TOKENIZER, FakeEngine
from messaging import PATH, engine_of, folded, post

READ = '<tool_call>\n{"name": "Read", "arguments": {"file_path": "/a.py"}}\n</tool_call>'


async def sent(engine: FakeEngine, body: dict[str, Any], path: str = f"{PATH}?beta=true") -> Any:
    return await post(engine, body, path=path, headers=HEADERS, api_keys=("key",))


@pytest.mark.parametrize("name", REQUESTS)
async def test_every_request_of_a_session_is_answered(name: str) -> None:
    body, engine = REQUESTS[name], engine_of(READ, max_model_len=6000)
    reply = await sent(engine, body)
    assert reply.status_code == 200, reply.text
    assert "x-ignored-params" not in reply.headers
    message = folded(reply.text) if body.get("stream") else reply.json()
    assert message["content"]
    if body.get("tools"):
        assert message["stop_reason"] == "tool_use"
    prompt = TOKENIZER.decode(engine.requests[0].prompt_token_ids)
    assert "billing" not in prompt


@pytest.mark.parametrize("name", REQUESTS)
async def test_every_request_of_a_session_can_be_counted(name: str) -> None:
    names = ("model", "messages", "system", "tools", "thinking", "output_config")
    body = {key: value for key, value in REQUESTS[name].items() if key in names}
    engine = engine_of(READ, max_model_len=6000)
    counted = await sent(engine, body, path=f"{PATH}/count_tokens?beta=true")
    await sent(engine, REQUESTS[name])
    assert counted.json()["input_tokens"] == len(engine.requests[0].prompt_token_ids)


async def test_tools_reach_the_model_and_those_of_others_are_named() -> None:
    engine = engine_of(READ, max_model_len=6000)
    reply = await sent(engine, REQUESTS["the first turn"])
    assert reply.headers["x-skipped-tools"] == "web_search"
    assert int(reply.headers["x-effective-max-tokens"]) < 6000
    prompt = TOKENIZER.decode(engine.requests[0].prompt_token_ids)
    for tool in TOOLS[:-1]:
        assert json.dumps(tool["name"]) in prompt


async def test_a_session_is_found_in_the_cache() -> None:
    """A later turn begins with the tokens of the one before, although the accountants' block has changed."""
    engine = engine_of(READ, max_model_len=6000)
    first, later = REQUESTS["the first turn"], REQUESTS["a turn with results"]
    billing = [{"type": "text", "text": "x-anthropic-billing-header: cch=99999;"}, *later["system"][1:]]
    await sent(engine, first)
    await sent(engine, later | {"system": billing})
    before, after = (list(request.prompt_token_ids) for request in engine.requests)
    common = next(at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b or at == len(before) - 1)
    assert common > 0.95 * len(before)
