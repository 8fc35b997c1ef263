"""What the operator decides about answers, and how far requests can decide otherwise."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from fake_engine import FakeEngine, app_over, client_of

from specserve.handlers.openai.reply_defaults import ReplyDefaults

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ROUTES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hello"}]},
    COMPLETIONS: {"prompt": "hello"},
}


@pytest.mark.parametrize(("sent", "expected"), [(None, True), (True, True), (False, False)])
async def test_tokens_are_written_as_ids_unless_a_request_says_otherwise(sent: bool | None, expected: bool) -> None:
    app = app_over(FakeEngine(), reply_defaults=ReplyDefaults(tokens_as_ids=True))
    body = {"return_tokens_as_token_ids": sent}
    async with client_of(app) as client:
        chat = (await client.post(CHAT, json=ROUTES[CHAT] | body | {"logprobs": True})).json()
        raw = (await client.post(COMPLETIONS, json=ROUTES[COMPLETIONS] | body | {"logprobs": 0})).json()
    names = [chat["choices"][0]["logprobs"]["content"][0]["token"], raw["choices"][0]["logprobs"]["tokens"][0]]
    assert [name.startswith("token_id:") for name in names] == [expected, expected]


@pytest.mark.parametrize("options", [None, {"include_usage": False}])
@pytest.mark.parametrize("path", ROUTES)
async def test_every_chunk_can_be_made_to_carry_usage(path: str, options: Any) -> None:
    app = app_over(FakeEngine(), reply_defaults=ReplyDefaults(counts_always=True))
    # The linter of `client_of` would find usage nobody asked for.
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://server") as client:
        reply = await client.post(path, json=ROUTES[path] | {"stream": True, "stream_options": options})
        whole = await client.post(path, json=ROUTES[path])
    chunks = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    assert all(chunk["usage"] for chunk in chunks)
    assert chunks[-1]["choices"] == []
    assert whole.json()["usage"] == chunks[-1]["usage"]
