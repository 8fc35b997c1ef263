"""Tools, thinking and the fields agents send along: what is used, what is told to be left out, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from fake_engine import TOKENIZER
from messaging import HELLO, PATH, THINK, WEATHER, engine_of, post, refusal

from specserve.handlers.chat.prompts import Prompts, TemplateOptions

SEARCH: dict[str, Any] = {
    "type": "web_search_20250305",
    "name": "web_search",
    "max_uses": 5,
    "allowed_domains": ["a.example"],
}
BASH = {"type": "bash_20250124", "name": "bash"}
MCP = {"type": "mcp_toolset", "mcp_server_name": "files"}


async def prompt_of(body: dict[str, Any], **options: Any) -> str:
    engine = engine_of("ok", max_model_len=3000)
    reply = await post(engine, HELLO | body, **options)
    assert reply.status_code == 200, reply.text
    return TOKENIZER.decode(engine.requests[0].prompt_token_ids)


async def test_tools_of_other_servers_are_left_out_and_named() -> None:
    reply = await post(engine_of("ok"), HELLO | {"tools": [SEARCH, WEATHER, BASH, MCP]})
    assert reply.status_code == 200
    assert reply.headers["x-skipped-tools"] == "web_search,bash,mcp_toolset"
    assert "x-ignored-params" not in reply.headers
    assert await prompt_of({"tools": [SEARCH, WEATHER]}) == await prompt_of({"tools": [WEATHER]})
    assert await prompt_of({"tools": [SEARCH]}) == await prompt_of({})


async def test_a_tools_description_and_schema_are_shown() -> None:
    assert "Weather of a city" in await prompt_of({"tools": [WEATHER]})


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"tool_choice": {"type": "any"}}, "invalid_parameter_combination", "tool_choice"),
        ({"tool_choice": {"type": "any"}, "tools": [SEARCH]}, "invalid_parameter_combination", "tool_choice"),
        ({"tool_choice": {"type": "tool", "name": "x"}}, "invalid_parameter_combination", "tool_choice"),
        (
            {"tool_choice": {"type": "tool", "name": "x"}, "tools": [WEATHER]},
            "invalid_parameter_combination",
            "tool_choice.name",
        ),
        (
            {"tool_choice": {"type": "tool", "name": "bash"}, "tools": [WEATHER, BASH]},
            "unsupported_value",
            "tool_choice.name",
        ),
        ({"tool_choice": {"type": "tool"}, "tools": [WEATHER]}, "missing_required_parameter", "tool_choice.name"),
        ({"tool_choice": {"type": "some"}}, "invalid_value", "tool_choice.type"),
        ({"tools": [WEATHER, WEATHER]}, "invalid_parameter_combination", "tools.1.name"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "missing_required_parameter", "tools.0.input_schema"),
        ({"tools": [{"type": "custom"}]}, "missing_required_parameter", "tools.0.name"),
        (
            {"tools": [WEATHER | {"input_schema": {"type": "array"}}], "tool_choice": {"type": "any"}},
            "invalid_constraint",
            "tools.0.input_schema.type",
        ),
        ({"max_tokens": 0}, "integer_below_min_value", "max_tokens"),
        ({"max_tokens": None}, "invalid_type", "max_tokens"),
        ({"messages": []}, "empty_array", "messages"),
        ({"messages": "hello"}, "invalid_type", "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "invalid_value", "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "song"}]}]}, "invalid_value", "messages.0.content.0.type"),
        ({"temperature": 2.5}, "decimal_above_max_value", "temperature"),
        ({"top_p": 0}, "decimal_below_min_value", "top_p"),
        ({"stop_sequences": [""]}, "string_below_min_length", "stop_sequences.0"),
        ({"thinking": {"type": "enabled"}}, "missing_required_parameter", "thinking.budget_tokens"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1000}},
            "integer_below_min_value",
            "thinking.budget_tokens",
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 1024},
            "invalid_parameter_combination",
            "thinking.budget_tokens",
        ),
        ({"container": "container_1"}, "unsupported_parameter", "container"),
        ({"mcp_servers": [{"type": "url", "url": "https://a.example"}]}, "unsupported_parameter", "mcp_servers"),
        ({"watermarking": True}, "unsupported_parameter", "watermarking"),
        (
            {
                "output_format": {"type": "json_schema", "schema": {}},
                "output_config": {"format": {"type": "json_schema", "schema": {}}},
            },
            "invalid_parameter_combination",
            "output_format",
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "wrong"}}}},
            "invalid_constraint",
            "output_config.format.schema",
        ),
        ({"chat_template_kwargs": {"messages": []}}, "unsupported_value", "chat_template_kwargs.messages"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_is_wrong_is_named_in_the_envelope_of_this_protocol(
    fields: dict[str, Any], code: str, param: str
) -> None:
    assert await refusal(HELLO | fields) == (400, "invalid_request_error", code, param)


async def test_fields_without_effect_change_nothing() -> None:
    along = {
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
        "metadata": {"user_id": "someone"},
        "service_tier": "standard_only",
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "container": None,
        "mcp_servers": [],
        "inference_geo": "eu",
        "speed": "fast",
    }
    reply = await post(engine_of("ok"), HELLO | along)
    assert reply.status_code == 200
    assert "x-ignored-params" not in reply.headers
    assert await prompt_of(along) == await prompt_of({})


async def test_unknown_fields_are_named() -> None:
    odd = HELLO | {"fallbacks": "default", "messages": [{"role": "user", "content": "hello", "mood": "good"}]}
    reply = await post(engine_of("ok"), odd)
    assert reply.headers["x-ignored-params"] == "fallbacks,messages.mood"


async def test_thinking_tells_the_template() -> None:
    on = await prompt_of(THINK)
    off = await prompt_of({"thinking": {"type": "disabled"}})
    assert on != off
    assert on == await prompt_of({"chat_template_kwargs": {"enable_thinking": True}, "max_tokens": 2000})
    assert await prompt_of({"thinking": {"type": "adaptive"}}) == await prompt_of({})
    assert await prompt_of(THINK | {"chat_template_kwargs": {"enable_thinking": False}}) == off


async def test_effort_tells_the_template() -> None:
    template = "{{ messages[0].content }} {{ reasoning_effort }} {{ enable_thinking is defined }}"
    prompts = Prompts(TemplateOptions(chat_template=template))
    assert await prompt_of({"output_config": {"effort": "max"}}, prompts=prompts) == "hello max False"


async def test_counting_needs_no_max_tokens() -> None:
    engine = engine_of("ok")
    asked = {"messages": HELLO["messages"], "tools": [WEATHER], "context_management": {"edits": []}}
    reply = await post(engine, asked, path=f"{PATH}/count_tokens")
    await post(engine, HELLO | {"tools": [WEATHER]})
    num = len(engine.requests[0].prompt_token_ids)
    assert reply.json() == {"input_tokens": num, "context_management": {"original_input_tokens": num}}


async def test_what_is_longer_than_the_context_can_still_be_counted() -> None:
    for words in ("word " * 90, "word " * 9000):
        long = {"messages": [{"role": "user", "content": words}]}
        reply = await post(engine_of("ok", max_model_len=64), long, path=f"{PATH}/count_tokens")
        assert reply.json()["input_tokens"] > len(words) / 10
