"""Dry runs say what the engine would get, and ask it for nothing."""

from __future__ import annotations

from typing import Any

import pytest
from fake_engine import TOKENIZER, FakeEngine, app_over, client_of

from specserve.handlers.chat.prompts import Prompts, TemplateOptions

CHAT, RENDER = "/v1/chat/completions", "/v1/chat/completions/render"
BODY: dict[str, Any] = {
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
    "tools": [{"type": "function", "function": {"name": "get_time"}}],
    "max_tokens": 9,
    "temperature": 0.5,
    "top_k": 3,
    "logit_bias": {"7": 1},
    "cache_salt": "mine",
    "priority": 2,
    "stream": True,
}


async def test_a_rendered_request_is_the_one_the_engine_gets() -> None:
    engine = FakeEngine()
    async with client_of(app_over(engine)) as client:
        shown = (await client.post(RENDER, json=BODY, headers={"X-Request-Id": "r"})).json()
        assert engine.requests == []
        await client.post(CHAT, json=BODY)
    (request,) = engine.requests
    assert shown["token_ids"] == list(request.prompt_token_ids)
    assert shown["prompt_text"] == TOKENIZER.decode(request.prompt_token_ids)
    assert shown["sampling_params"] == {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_k": 3,
        "logit_bias": {"7": 1.0},
        "skip_special_tokens": False,  # the marks of tool calls may be special tokens
    }
    assert (shown["request_id"], shown["model"], shown["stream"]) == ("chatcmpl-r", "fake", True)
    assert (shown["cache_salt"], shown["priority"]) == ("mine", 2)


async def test_what_the_template_keeps_from_the_model_is_told() -> None:
    source = "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}"
    prompts = Prompts(TemplateOptions(chat_template=source, trusts_requests=True))
    async with client_of(app_over(FakeEngine(), prompts=prompts)) as client:
        findings = (await client.post(RENDER, json=BODY)).json()["chat_template"]
        own = (await client.post(RENDER, json=BODY | {"chat_template": "{{ messages[0].content }}"})).json()
    assert findings["content_format"] == "string"
    assert {"system messages", "tools"} <= set(findings["drops"])
    assert (own["prompt_text"], own["chat_template"]) == ("Be brief.", None)


@pytest.mark.parametrize("fields", [{"messages": []}, {"tool_choice": {"type": "custom"}}, {"n": 5000}])
async def test_what_a_chat_refuses_a_dry_run_refuses_too(fields: dict[str, Any]) -> None:
    async with client_of(app_over(FakeEngine())) as client:
        answers = [await client.post(path, json=BODY | fields) for path in (CHAT, RENDER)]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json() == answers[1].json()


async def test_prompts_of_a_completion_are_shown_one_by_one() -> None:
    engine = FakeEngine()
    body = {"prompt": ["one two", "three"], "max_tokens": 3, "n": 2, "echo": True, "logprobs": 1}
    async with client_of(app_over(engine)) as client:
        shown = (await client.post("/v1/completions/render", json=body)).json()["data"]
        assert engine.requests == []
        await client.post("/v1/completions", json=body)
    assert [one["token_ids"] for one in shown] == [list(request.prompt_token_ids) for request in engine.requests[::2]]
    assert [one["prompt_text"] for one in shown] == ["one two", "three"]
    assert {one["sampling_params"]["max_tokens"] for one in shown} == {3}
    assert shown[0]["sampling_params"]["prompt_logprobs"] == 1


async def test_a_forced_call_shows_its_constraint() -> None:
    async with client_of(app_over(FakeEngine())) as client:
        shown = (await client.post(RENDER, json=BODY | {"tool_choice": "required"})).json()
    assert shown["sampling_params"]["grammar"]["kind"] == "json_schema"
