"""Forced tool calls on the wire, over an engine that writes what a constrained model would."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from fake_engine import TOKENIZER, FakeEngine, app_over, client_of
from jsonschema import Draft202012Validator
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from specserve.engine.grammar_spec import GrammarSpec
from specserve.handlers.chat.prompts import Prompts, TemplateOptions
from specserve.handlers.grammars import GrammarChecker

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHAT = "/v1/chat/completions"
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"name": "get_weather", "description": "The weather at a place", "parameters": CITY}
TIME = {"name": "get_time"}
TOOLS = [{"type": "function", "function": function} for function in (WEATHER, TIME)]
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Weather and time in Oslo?"}], "tools": TOOLS}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
OSLO = '{"city": "Oslo 🙂"}'
SINGLE = f'{{"name": "get_weather", "arguments": {OSLO}}}'
ONE = f"[{SINGLE}]"
TWO = f'[{{"name": "get_weather", "arguments": {OSLO}}}, {{"name": "get_time", "arguments": {{}}}}]'
ENGINE = FakeEngine()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app_over(ENGINE)) as opened:
        yield opened


async def ask(client: httpx2.AsyncClient, body: dict[str, Any], answer: str | list[str] = ONE) -> dict[str, Any]:
    """The whole reply; with several answers each choice has its own."""
    answers = [answer] if isinstance(answer, str) else answer
    ENGINE.answer = lambda request: answers[request.index % len(answers)]
    ENGINE.requests.clear()
    reply = await client.post(CHAT, json=ASK | body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def ask_streamed(
    client: httpx2.AsyncClient, body: dict[str, Any], answer: str | list[str] = ONE
) -> list[dict[str, Any]]:
    answers = [answer] if isinstance(answer, str) else answer
    ENGINE.answer = lambda request: answers[request.index % len(answers)]
    reply = await client.post(CHAT, json=ASK | body | {"stream": True})
    assert reply.status_code == 200, reply.text
    return [json.loads(frame[6:]) for frame in reply.text.split("\n\n") if frame.startswith("data: {")]


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    calls = [call | {"id": "", "index": None} for call in message.get("tool_calls") or []]
    return {name: message.get(name) for name in ("role", "content", "function_call")} | {"tool_calls": calls}


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    ("choice", "answer", "calls", "reason"),
    [
        ("required", ONE, [("get_weather", OSLO)], "tool_calls"),
        ("required", TWO, [("get_weather", OSLO), ("get_time", "{}")], "tool_calls"),
        (NAMED, SINGLE, [("get_weather", OSLO)], "stop"),
        (NAMED, f"\n {SINGLE}", [("get_weather", OSLO)], "stop"),
    ],
    ids=["one", "two", "named", "named after white space"],
)
async def test_a_stream_of_calls_adds_up_to_the_whole_answer(
    client: httpx2.AsyncClient, choice: Any, answer: str, calls: list[tuple[str, str]], reason: str, n: int
) -> None:
    """The official client's own accumulator is the one that adds up."""
    body = {"tool_choice": choice, "n": n, "max_tokens": 100}
    whole = (await ask(client, body, answer))["choices"]
    state = ChatCompletionStreamState(input_tools=TOOLS)  # type: ignore[arg-type]
    for chunk in await ask_streamed(client, body, answer):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    added_up = state.get_final_completion().to_dict()["choices"]
    for one, other in zip(whole, added_up, strict=True):  # type: ignore[call-overload]
        message = one["message"]
        assert [(call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]] == calls
        assert (message["content"], one["finish_reason"]) == (None, reason)
        assert all(call["type"] == "function" for call in message["tool_calls"])
        streamed = other["message"]
        for call in streamed["tool_calls"]:
            call["function"].pop("parsed_arguments", None)
        assert without_ids(streamed) == without_ids(message)
        assert other["finish_reason"] == reason


async def test_a_call_is_streamed_name_first_and_arguments_as_they_come(client: httpx2.AsyncClient) -> None:
    chunks = await ask_streamed(client, {"tool_choice": "required"}, TWO)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert deltas[0] == {"role": "assistant", "content": None}
    pieces = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert [piece["index"] for piece in pieces] == sorted(piece["index"] for piece in pieces)
    firsts = [piece for piece in pieces if "id" in piece]
    assert [(first["index"], first["type"], first["function"]) for first in firsts] == [
        (0, "function", {"name": "get_weather", "arguments": ""}),
        (1, "function", {"name": "get_time", "arguments": ""}),
    ]
    rest = [piece for piece in pieces if "id" not in piece]
    assert all(piece.keys() == {"index", "function"} and piece["function"].keys() == {"arguments"} for piece in rest)
    assert len([piece for piece in rest if piece["index"] == 0]) > 3
    assert all(delta.get("content") is None for delta in deltas)


async def test_ids_are_unique_over_calls_choices_and_requests(client: httpx2.AsyncClient) -> None:
    replies = [await ask(client, {"tool_choice": "required", "n": 3}, TWO) for _ in range(2)]
    ids = [call["id"] for reply in replies for choice in reply["choices"] for call in choice["message"]["tool_calls"]]
    assert len(set(ids)) == len(ids) == 12
    assert all(re.fullmatch(r"call_[0-9a-f]{24}", call_id) for call_id in ids)


async def test_templates_that_insist_on_short_ids_get_them() -> None:
    source = "{% for m in messages %}{{ m.content }}{% endfor %}{# [TOOL_CALLS] #}"
    engine = FakeEngine(lambda request: ONE.replace('"arguments"', '"parameters"'))
    async with client_of(app_over(engine, prompts=Prompts(TemplateOptions(chat_template=source)))) as client:
        reply = (await client.post(CHAT, json=ASK | {"tool_choice": "required"})).json()
    assert re.fullmatch(r"[A-Za-z0-9]{9}", reply["choices"][0]["message"]["tool_calls"][0]["id"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("choice", "answer", "fields", "reason", "has_call", "content"),
    [
        ("required", TWO, {}, "tool_calls", True, None),
        ("required", TWO, {"max_tokens": 20}, "length", True, None),
        ("required", TWO, {"max_tokens": 2}, "length", False, True),
        (NAMED, SINGLE, {}, "stop", True, None),
        (NAMED, SINGLE, {"max_tokens": 14}, "length", True, None),
        ("required", TWO, {"stop": "Os"}, "stop", True, None),
        ("required", "I cannot.", {}, "stop", False, True),
        (NAMED, "", {}, "stop", False, None),
        ("auto", "Sunny.", {}, "stop", False, True),
        ("none", "Sunny.", {}, "stop", False, True),
    ],
    ids=[
        "calls", "cut in arguments", "cut in name", "named", "named and cut", "stop string in arguments", "no call",
        "blank", "auto", "none"
    ],
)  # fmt: skip
async def test_every_cause_has_its_finish_reason(
    client: httpx2.AsyncClient,
    choice: Any,
    answer: str,
    fields: dict[str, Any],
    reason: str,
    has_call: bool,
    content: bool | None,
    stream: bool,
) -> None:
    body = {"tool_choice": choice, "max_tokens": 200} | fields
    if stream:
        deltas = [(c["delta"], c["finish_reason"]) for chunk in await ask_streamed(client, body, answer)
                  for c in chunk["choices"]]  # fmt: skip
        found = any("tool_calls" in delta for delta, _ in deltas)
        text = "".join(delta.get("content") or "" for delta, _ in deltas)
        ends = [end for _, end in deltas if end is not None]
    else:
        (made,) = (await ask(client, body, answer))["choices"]
        found, text, ends = "tool_calls" in made["message"], made["message"]["content"] or "", [made["finish_reason"]]
    assert (ends, found, bool(text)) == ([reason], has_call, bool(content))


async def test_tokens_and_logprobs_of_calls_are_reported_as_ever(client: httpx2.AsyncClient) -> None:
    body = {"tool_choice": "required", "logprobs": True, "return_token_ids": True, "stream_options": None}
    whole = await ask(client, body, TWO)
    choice = whole["choices"][0]
    assert TOKENIZER.decode(choice["token_ids"], skip_special_tokens=True) == TWO
    assert whole["usage"]["completion_tokens"] == len(choice["token_ids"]) == len(choice["logprobs"]["content"])
    chunks = await ask_streamed(client, body, TWO)
    pieces = [one for chunk in chunks for one in chunk["choices"]]
    assert [token for piece in pieces for token in piece.get("token_ids") or []] == choice["token_ids"]
    entries = [entry for piece in pieces if piece.get("logprobs") for entry in piece["logprobs"]["content"]]
    assert entries == choice["logprobs"]["content"]


async def test_each_choice_has_calls_of_its_own(client: httpx2.AsyncClient) -> None:
    reply = await ask(client, {"tool_choice": "required", "n": 3}, [ONE, TWO, ONE])
    assert [len(choice["message"]["tool_calls"]) for choice in reply["choices"]] == [1, 2, 1]


async def test_echo_stays_before_the_calls(client: httpx2.AsyncClient) -> None:
    messages = [*ASK["messages"], {"role": "assistant", "content": "Let me see. "}]
    body = {"messages": messages, "continue_final_message": True, "echo": True, "tool_choice": "required"}
    message = (await ask(client, body))["choices"][0]["message"]
    assert (message["content"], len(message["tool_calls"])) == ("Let me see. ", 1)


# ---- the form before tools


async def test_a_named_function_comes_back_as_a_function_call(client: httpx2.AsyncClient) -> None:
    body = {"tools": None, "functions": [WEATHER], "function_call": {"name": "get_weather"}}
    (choice,) = (await ask(client, body, SINGLE))["choices"]
    assert choice["message"]["function_call"] == {"name": "get_weather", "arguments": OSLO}
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "stop")
    assert "tool_calls" not in choice["message"]
    state = ChatCompletionStreamState()
    for chunk in await ask_streamed(client, body, SINGLE):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    message = state.get_final_completion().choices[0].message
    assert message.function_call is not None
    assert (message.function_call.name, message.function_call.arguments) == ("get_weather", OSLO)


# ---- what the engine is asked for


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[GrammarSpec, GrammarSpec]]:
    """What was checked, and what the checker made of it."""
    found: list[tuple[GrammarSpec, GrammarSpec]] = []
    check = GrammarChecker.check

    async def recorded(self: GrammarChecker, spec: GrammarSpec, *, param: str) -> GrammarSpec:
        found.append((spec, await check(self, spec, param=param)))
        return found[-1][1]

    monkeypatch.setattr(GrammarChecker, "check", recorded)
    return found


async def constraint(
    client: httpx2.AsyncClient, checked: list[tuple[GrammarSpec, GrammarSpec]], body: dict[str, Any], answer: str = ONE
) -> Draft202012Validator:
    await ask(client, body, answer)
    asked, made = checked[-1]
    assert ENGINE.requests[0].params.grammar == made
    assert asked.kind == "json_schema"
    return Draft202012Validator(json.loads(asked.source))


async def test_the_answer_is_constrained_to_the_tools_that_may_be_called(
    client: httpx2.AsyncClient, checked: list[tuple[GrammarSpec, GrammarSpec]]
) -> None:
    weather, time = {"name": "get_weather", "arguments": {"city": "Oslo"}}, {"name": "get_time", "arguments": {}}
    required = await constraint(client, checked, {"tool_choice": "required"})
    assert required.is_valid([weather, time])
    assert not required.is_valid([weather | {"arguments": {}}])
    assert not (await constraint(client, checked, {"tool_choice": "required", "parallel_tool_calls": False})).is_valid(
        [weather, time]
    )
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", 
        "function": {"name": "get_time"}}]}}  # fmt: skip
    only_time = await constraint(client, checked, {"tool_choice": allowed})
    assert only_time.is_valid([time])
    assert not only_time.is_valid([weather])
    named = await constraint(client, checked, {"tool_choice": NAMED}, SINGLE)
    assert named.is_valid(weather)
    assert not named.is_valid(time)


@pytest.mark.parametrize("choice", ["auto", "none"])
async def test_without_a_forced_call_the_answer_is_free(client: httpx2.AsyncClient, choice: str) -> None:
    await ask(client, {"tool_choice": choice}, "Sunny.")
    assert ENGINE.requests[0].params.grammar is None


async def test_a_forced_call_comes_before_a_response_format(
    client: httpx2.AsyncClient, checked: list[tuple[GrammarSpec, GrammarSpec]]
) -> None:
    """The format is that of a message's content, and there is none."""
    await constraint(client, checked, {"tool_choice": "required", "response_format": {"type": "json_object"}})
    await ask(client, {"response_format": {"type": "json_object"}, "tool_choice": "none"}, "{}")
    grammar = ENGINE.requests[0].params.grammar
    assert grammar is not None
    assert grammar.kind == "json_object"


async def test_without_force_a_response_format_leaves_the_model_a_call(client: httpx2.AsyncClient) -> None:
    call = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
    body = {"response_format": {"type": "json_object"}}
    called = (await ask(client, body, call))["choices"][0]
    assert (called["finish_reason"], called["message"]["content"]) == ("tool_calls", None)
    assert called["message"]["tool_calls"][0]["function"] == {"name": "get_time", "arguments": "{}"}
    answered = (await ask(client, body, '{"a": 1}'))["choices"][0]
    assert (answered["finish_reason"], answered["message"]["content"]) == ("stop", '{"a": 1}')
    grammar = ENGINE.requests[0].params.grammar
    assert grammar is not None
    assert (grammar.kind, grammar.param) == ("answer", "response_format")


async def test_a_strict_tool_has_a_grammar_without_being_forced(client: httpx2.AsyncClient) -> None:
    strict = [{"type": "function", "function": WEATHER | {"strict": True}}, TOOLS[1]]
    await ask(client, {"tools": strict}, "Sunny.")
    grammar = ENGINE.requests[0].params.grammar
    assert grammar is not None
    assert (grammar.kind, grammar.param) == ("answer", "tools")
    assert not ENGINE.requests[0].params.skip_special_tokens
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "get_time"}}]}
    await ask(client, {"tools": strict, "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}, "Noon.")
    assert ENGINE.requests[0].params.grammar is None, "the strict one is not among them"


async def test_strict_parameters_with_an_unknown_keyword_are_refused_by_their_place(client: httpx2.AsyncClient) -> None:
    parameters = {"type": "object", "properties": {"x": {"not": {}}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters, "strict": True}}
    reply = await client.post(CHAT, json=ASK | {"tools": [tool]})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "tools.0.function.parameters/properties/x/not"


async def test_where_nobody_knows_the_form_of_calls_strict_tools_are_named_in_a_header() -> None:
    prompts = Prompts(TemplateOptions(chat_template="{% for m in messages %}{{ m.content }}{% endfor %}"))
    strict = [{"type": "function", "function": WEATHER | {"strict": True}}]
    async with client_of(app_over(FakeEngine(), prompts=prompts)) as client:
        reply = await client.post(CHAT, json=ASK | {"tools": strict})
    assert reply.status_code == 200
    assert reply.headers["x-unenforced-fields"] == "tools.0.function.strict"


def tools_with(parameters: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [TOOLS[1], {"type": "function", "function": {"name": "f", "parameters": parameters, **more}}]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
@pytest.mark.parametrize(
    ("parameters", "more", "place"),
    [
        ({"type": "object", "properties": {"x": {"type": "nonsense"}}}, {}, "/properties/x"),
        ({"type": "string"}, {}, ".type"),
        ({"type": "object", "properties": {"x": {"$ref": "#/$defs/none"}}}, {}, "/properties/x"),
        ({"type": "object", "properties": {"x": {"not": {"type": "string"}}}}, {"strict": True}, "/properties/x/not"),
    ],
    ids=["no schema", "no object", "dangling", "strict"],
)
async def test_parameters_that_cannot_be_enforced_are_refused_by_their_place(
    client: httpx2.AsyncClient, choice: Any, parameters: dict[str, Any], more: dict[str, Any], place: str
) -> None:
    reply = await client.post(CHAT, json=ASK | {"tools": tools_with(parameters, **more), "tool_choice": choice})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"].startswith(f"tools.1.function.parameters{place}")


async def test_what_a_lenient_tool_loses_is_told(client: httpx2.AsyncClient) -> None:
    tools = tools_with({"type": "object", "properties": {"x": {"not": {"type": "string"}}}})
    ENGINE.answer = lambda request: "[]"
    reply = await client.post(CHAT, json=ASK | {"tools": tools, "tool_choice": "required"})
    assert reply.headers["x-widened-schema-keywords"] == "tools.1.function.parameters/properties/x/not"


@pytest.mark.parametrize("choice", ["required", NAMED])
async def test_another_constraint_contradicts_a_forced_call(client: httpx2.AsyncClient, choice: Any) -> None:
    for name, value in (("structured_outputs", {"regex": "a"}), ("guided_choice", ["a"])):
        reply = await client.post(CHAT, json=ASK | {"tool_choice": choice, name: value})
        error = reply.json()["error"]
        assert (error["code"], error["param"]) == ("invalid_parameter_combination", name)
