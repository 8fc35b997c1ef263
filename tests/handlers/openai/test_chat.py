"""What a chat request says about its prompt and its messages, over an engine that says what it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from fake_engine import TOKENIZER, FakeEngine, app_over, client_of

from specserve.handlers.chat.preparation import ChatOptions
from specserve.handlers.chat.prompts import Prompts, TemplateOptions

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
BEGUN: dict[str, Any] = {
    "messages": [*HELLO["messages"], {"role": "assistant", "content": "Well, "}],
    "continue_final_message": True,
}
WEATHER = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
TRUSTING = {"prompts": Prompts(TemplateOptions(trusts_requests=True))}


async def ask(body: dict[str, Any], status: int = 200, **options: Any) -> tuple[dict[str, Any], str]:
    """The answer, or the error, and the prompt that the engine got."""
    engine = FakeEngine(max_model_len=600)
    async with client_of(app_over(engine, **options)) as client:
        reply = await client.post(CHAT, json=body)
    assert reply.status_code == status, reply.text
    found = reply.json() if status == 200 else reply.json()["error"]
    return found, TOKENIZER.decode(engine.requests[0].prompt_token_ids) if engine.requests else ""


async def chunks(body: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    async with client_of(app_over(FakeEngine(), **options)) as client:
        reply = await client.post(CHAT, json=body | {"stream": True})
    return [json.loads(line[6:]) for line in reply.text.split("\n\n") if line.startswith("data: {")]


async def test_a_message_has_every_key_that_clients_read() -> None:
    message = (await ask(HELLO))[0]["choices"][0]["message"]
    assert message == {
        "role": "assistant",
        "content": "The capital of France is Paris.",
        "refusal": None,
        "annotations": [],
    }


# ---- what the prompt is made of


async def test_the_prompt_is_reported_when_asked_for() -> None:
    reply, prompt = await ask(HELLO | {"return_prompt_text": True, "return_token_ids": True})
    assert reply["prompt_text"] == prompt
    assert TOKENIZER.decode(reply["prompt_token_ids"]) == prompt
    first, *rest = await chunks(HELLO | {"return_prompt_text": True, "return_token_ids": True})
    assert (first["prompt_text"], first["prompt_token_ids"]) == (prompt, reply["prompt_token_ids"])
    assert not any("prompt_text" in chunk or "prompt_token_ids" in chunk for chunk in rest)


@pytest.mark.parametrize("n", [1, 2])
async def test_echo_begins_every_choice_with_the_message_it_continues(n: int) -> None:
    body = BEGUN | {"echo": True, "n": n}
    whole = (await ask(body))[0]["choices"]
    assert [choice["message"]["content"] for choice in whole] == ["Well, The capital of France is Paris."] * n
    pieces = await chunks(body)
    for index in range(n):
        deltas = [c["choices"][0]["delta"] for c in pieces if c["choices"][0]["index"] == index]
        assert deltas[:2] == [{"role": "assistant", "content": ""}, {"content": "Well, "}]
        assert "".join(delta.get("content", "") for delta in deltas) == whole[index]["message"]["content"]


async def test_echo_says_nothing_of_another_roles_message() -> None:
    reply, _ = await ask(HELLO | {"echo": True})
    assert reply["choices"][0]["message"]["content"] == "The capital of France is Paris."


@pytest.mark.parametrize(
    ("fields", "role"),
    [({}, "model"), ({"add_generation_prompt": False}, "user"), (BEGUN, "assistant")],
    ids=["new message", "no generation prompt", "continued"],
)
async def test_an_answer_has_the_role_of_the_message_it_is(fields: dict[str, Any], role: str) -> None:
    options = {"chat_options": ChatOptions(response_role="model")}
    assert (await ask(HELLO | fields, **options))[0]["choices"][0]["message"]["role"] == role
    assert (await chunks(HELLO | fields, **options))[0]["choices"][0]["delta"]["role"] == role


async def test_without_a_generation_prompt_the_prompt_ends_with_the_last_message() -> None:
    assert (await ask(HELLO | {"add_generation_prompt": False}))[1].endswith("hello<|im_end|>\n")


async def test_variables_of_the_request_win_over_those_of_the_server() -> None:
    options = {"prompts": Prompts(TemplateOptions(default_kwargs={"enable_thinking": True}))}
    assert (await ask(HELLO, **options))[1].endswith("<think>\n")
    for fields in ({"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}):
        assert (await ask(HELLO | fields, **options))[1].endswith("assistant\n")
    assert (await ask(HELLO | {"reasoning_effort": "low"}))[1].endswith("<think>\n")


# ---- templates of requests


@pytest.mark.parametrize("place", ["chat_template", "chat_template_kwargs.chat_template"])
async def test_a_request_brings_its_template_only_where_that_is_trusted(place: str) -> None:
    source = "{% for m in messages %}{{ m.content | upper }}{% endfor %}{{ mood }}"
    kwargs = {"mood": "!"} | ({"chat_template": source} if "." in place else {})
    body = HELLO | {"chat_template_kwargs": kwargs} | ({} if "." in place else {"chat_template": source})
    assert (await ask(body, **TRUSTING))[1] == "HELLO!"
    error, _ = await ask(body, 400)
    assert (error["code"], error["param"]) == ("unsupported_parameter", place)
    assert "--trust-request-chat-template" in error["message"]


@pytest.mark.parametrize("source", ["{% if %}", "{{ raise_exception('no') }}", "{{ x.y }}", ""])
async def test_a_template_that_cannot_be_used_is_refused_by_name(source: str) -> None:
    error, _ = await ask(HELLO | {"chat_template": source}, 400, **TRUSTING)
    assert (error["code"], error["param"]) == ("invalid_prompt", "chat_template" if source else "messages")


async def test_a_model_without_a_template_says_what_to_do() -> None:
    class Silent:
        chat_template = None
        chat_templates: Mapping[str, str] = MappingProxyType({})

        def __getattr__(self, name: str) -> Any:
            return getattr(TOKENIZER, name)

    async with client_of(app_over(FakeEngine(tokenizer=Silent()))) as client:  # type: ignore[arg-type]
        reply = await client.post(CHAT, json=HELLO)
    assert reply.status_code == 400
    assert "--chat-template" in reply.json()["error"]["message"]


# ---- messages in all their forms


@pytest.mark.parametrize(
    ("messages", "shown"),
    [
        ([{"role": "developer", "content": "Be brief."}], "<|im_start|>system\nBe brief."),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], "user\nab<"),
        ([{"role": "assistant", "content": None, "refusal": "I will not."}], "assistant\nI will not.<"),
        ([{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}], "assistant\nNo.<"),
        ([{"role": "assistant", "content": "x", "reasoning": "hm"}], "<think>\nhm\n</think>\n\nx"),
        ([{"role": "assistant", "content": "x", "reasoning_content": "hm"}], "<think>\nhm\n</think>\n\nx"),
        (
            [{"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "x"}]}],
            "<think>\nhm\n</think>\n\nx",
        ),
        ([{"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": t} for t in "ab"]}], ">\na\nb\n<"),
        ([{"role": "tool", "tool_call_id": "1", "content": "r"}], "<tool_response>\nr\n</tool_response>"),
        ([{"role": "assistant", "content": "x", "tool_calls": []}], "assistant\nx<"),
        ([{"role": "assistant"}], "assistant\n<"),
        (
            [
                {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}},
                {"role": "function", "name": "f", "content": "r"},
            ],
            '{"name": "f", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n<|im_start|>tool\n<tool_response>\nr',
        ),
    ],
    ids=[
        "developer", "parts", "refusal", "refusal part", "reasoning", "older reasoning", "thinking part",
        "tool parts", "tool", "no calls", "nothing", "functions"
    ],
)  # fmt: skip
async def test_every_form_of_message_reaches_the_template(messages: list[Any], shown: str) -> None:
    assert shown in (await ask({"messages": [*HELLO["messages"], *messages]}))[1] or (
        shown in (await ask({"messages": [*messages, *HELLO["messages"]]}))[1]
    )


@pytest.mark.parametrize("arguments", ['{"city": "Oslo"}', {"city": "Oslo"}, "not json", "", None])
async def test_earlier_arguments_come_as_text_as_objects_or_broken(arguments: Any) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    messages = [*HELLO["messages"], {"role": "assistant", "content": None, "tool_calls": [call]}]
    written = {"not json": "not json", "": "{}", None: "{}"}.get(arguments if isinstance(arguments, str) else None)
    if isinstance(arguments, dict) or arguments == '{"city": "Oslo"}':
        written = '{"city": "Oslo"}'
    assert f'"arguments": {written}}}' in (await ask({"messages": messages}))[1]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]},
         "messages.1.content.1.type"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}]},
         "messages.1.content.0.type"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}, "messages.1.content.0.type"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages.1.audio"),
        ({"role": "assistant", "tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "c", "input": ""}}]},
         "messages.1.tool_calls.0.type"),
    ],
)  # fmt: skip
async def test_what_the_model_cannot_read_is_refused_by_its_place(message: dict[str, Any], param: str) -> None:
    error, _ = await ask({"messages": [*HELLO["messages"], message]}, 400)
    assert (error["code"], error["param"]) == ("unsupported_value", param)


# ---- tools that the model is shown


async def test_functions_are_tools_in_an_older_form() -> None:
    tools, functions = [{"type": "function", "function": WEATHER}], [WEATHER]
    assert (await ask(HELLO | {"functions": functions}))[1] == (await ask(HELLO | {"tools": tools}))[1]


async def test_tools_that_may_not_be_called_are_shown_unless_the_server_hides_them() -> None:
    body = HELLO | {"tools": [{"type": "function", "function": WEATHER}], "tool_choice": "none"}
    assert "get_weather" in (await ask(body))[1]
    assert "get_weather" not in (await ask(body, chat_options=ChatOptions(hides_unused_tools=True)))[1]


async def test_only_allowed_tools_are_shown() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("one", "two")]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": tools[:1]}}
    prompt = (await ask(HELLO | {"tools": tools, "tool_choice": choice}))[1]
    assert '"one"' in prompt
    assert '"two"' not in prompt


TOOLS = [{"type": "function", "function": {"name": name}} for name in ("one", "two")]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice.function"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "three"}}},
            "tool_choice.function.name",
        ),
        ({"tools": TOOLS, "tool_choice": {"type": "custom", "custom": {"name": "one"}}}, "tool_choice.type"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
            "tool_choice.allowed_tools.tools",
        ),
        (
            {
                "tools": TOOLS,
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "x"}}]},
                },
            },
            "tool_choice.allowed_tools.tools.0.function.name",
        ),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "tools.1.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "two words"}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "x" * 129}}]}, "tools.0.function.name"),
        ({"tools": []}, "tools"),
        ({"function_call": "auto"}, "function_call"),
        ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call.name"),
        ({"functions": [{"name": "f"}, {"name": "f"}]}, "functions.1.name"),
        ({"functions": [{"name": "f"}], "tools": TOOLS}, "tools"),
    ],
)
async def test_tools_and_choices_that_do_not_fit_are_refused_by_their_place(fields: dict[str, Any], param: str) -> None:
    error, _ = await ask(HELLO | fields, 400)
    assert error["param"] == param, error["message"]


# ---- what completions can do, too


@pytest.mark.parametrize(("side", "kept"), [(None, slice(-5, None)), ("left", slice(-5, None)), ("right", slice(5))])
async def test_a_long_prompt_is_cut_when_that_is_asked_for(side: str | None, kept: slice) -> None:
    engine = FakeEngine()
    body = HELLO | {"truncate_prompt_tokens": 5, "truncation_side": side, "return_prompt_text": True}
    async with client_of(app_over(engine)) as client:
        await client.post(CHAT, json=HELLO)
        reply = await client.post(CHAT, json=body)
    whole, cut = [list(request.prompt_token_ids) for request in engine.requests]
    assert cut == whole[kept]
    assert reply.headers["x-truncated-prompt-tokens"] == f"{len(whole)}/5"
    assert reply.json()["prompt_text"] == TOKENIZER.decode(cut)


async def test_a_conversation_beyond_the_context_is_cut_rather_than_refused_when_asked() -> None:
    engine = FakeEngine(max_model_len=64)
    body = {"messages": [{"role": "user", "content": "word " * 400}], "truncate_prompt_tokens": -1}
    async with client_of(app_over(engine)) as client:
        assert (await client.post(CHAT, json=body)).status_code == 200
    assert len(engine.requests[0].prompt_token_ids) == 63


async def test_a_continued_message_goes_on_in_its_text() -> None:
    engine = FakeEngine()
    async with client_of(app_over(engine)) as client:
        await client.post(CHAT, json=BEGUN)
        await client.post(CHAT, json=HELLO)
    assert [request.continues_prompt for request in engine.requests] == [True, False]


async def test_beams_do_not_go_with_forced_calls() -> None:
    tools = [{"type": "function", "function": WEATHER}]
    error, _ = await ask(HELLO | {"use_beam_search": True, "tools": tools, "tool_choice": "required"}, 400)
    assert (error["code"], error["param"]) == ("invalid_parameter_combination", "tool_choice")
