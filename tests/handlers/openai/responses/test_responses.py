"""The official client's own calls, over an engine that says what it is told to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio
from fake_engine import TOKENIZER, FakeEngine, app_over, lint_stream
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseReasoningItem,
    ResponseUsage,
)
from pydantic import BaseModel

from specserve.engine.api import GenerationRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather at a place",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
CALC: Any = {"type": "custom", "name": "calc", "description": "Evaluates an expression."}
OSLO = '{"city": "Oslo 🙂"}'
CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {OSLO}}}\n</tool_call>'
TEXT_CALL = '<tool_call>\n{"name": "calc", "arguments": {"input": "2 + \\"2\\""}}\n</tool_call>'
THINKING: Any = {"chat_template_kwargs": {"enable_thinking": True}}
ENGINE = FakeEngine(max_model_len=800)
PARIS = "The capital of France is Paris."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[openai.AsyncOpenAI]:
    transport = httpx2.ASGITransport(app=app_over(ENGINE))
    http = httpx2.AsyncClient(transport=transport, base_url="http://server/v1", event_hooks={"response": [lint_stream]})
    async with openai.AsyncOpenAI(base_url="http://server/v1", api_key="x", max_retries=0, http_client=http) as opened:
        yield opened


@pytest.fixture(autouse=True)
def fresh() -> None:
    says(PARIS)
    ENGINE.requests.clear()
    ENGINE.dies_after = None


def says(answer: str | Callable[[GenerationRequest], str]) -> None:
    ENGINE.answer = answer if callable(answer) else lambda request: answer


def prompt() -> str:
    """What the model read last."""
    return TOKENIZER.decode(ENGINE.requests[-1].prompt_token_ids)


async def test_a_text_is_answered(client: openai.AsyncOpenAI) -> None:
    made = await client.responses.create(model="fake", input="What is the capital of France?")
    assert (made.output_text, made.status, made.object, made.error) == (PARIS, "completed", "response", None)
    (message,) = made.output
    assert isinstance(message, ResponseOutputMessage)
    assert (message.role, message.status, message.id[:4]) == ("assistant", "completed", "msg_")
    assert isinstance(made.usage, ResponseUsage)
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens
    assert made.usage.input_tokens == len(ENGINE.requests[0].prompt_token_ids)
    assert made.completed_at is not None
    assert prompt().count("<|im_start|>user") == 1


async def test_every_field_of_the_response_is_there() -> None:
    """Also those that nothing is known about: validators of clients insist on them."""
    asked = {"input": "hello", "metadata": {"team": "a"}, "max_output_tokens": 3, "user": "u", "prompt_cache_key": "k"}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app_over(ENGINE)), base_url="http://s") as http:
        made = (await http.post("/v1/responses", json=asked)).json()
    names = """id object created_at completed_at status background error incomplete_details instructions
        max_output_tokens max_tool_calls metadata model output parallel_tool_calls previous_response_id prompt_cache_key
        reasoning safety_identifier service_tier store temperature presence_penalty frequency_penalty text tool_choice
        tools top_logprobs top_p truncation usage user""".split()
    assert [name for name in names if name not in made] == []
    assert (made["metadata"], made["user"], made["prompt_cache_key"]) == ({"team": "a"}, "u", "k")
    assert (made["status"], made["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (made["max_output_tokens"], made["usage"]["output_tokens"]) == (3, 3)
    assert made["output"][0]["status"] == "incomplete"


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (PARIS, {}),
        ("", {}),
        ('Say "hi" \\ to 👩‍👧.\n\n', {"max_output_tokens": 5}),
        (f"hm, Oslo</think>Let me see. {CALL}{CALL} Done.", {"tools": [WEATHER], "extra_body": THINKING}),
        (f"why</think>{CALL[:50]}", {"tools": [WEATHER], "extra_body": THINKING}),
        (f"why</think>{TEXT_CALL}", {"tools": [CALC], "extra_body": THINKING}),
        ("thinking about it for long", {"extra_body": THINKING, "max_output_tokens": 4}),
        (PARIS, {"include": ["message.output_text.logprobs"], "top_logprobs": 2}),
        (PARIS, {"include": ["reasoning.encrypted_content"], "extra_body": THINKING}),
        (PARIS, {"extra_body": {"enable_response_messages": True}, "instructions": "Be brief."}),
    ],
)
async def test_the_last_event_of_a_stream_has_what_the_whole_answer_is(
    client: openai.AsyncOpenAI, answer: str, asked: dict[str, Any]
) -> None:
    says(answer)
    whole = await client.responses.create(input="hello", **asked)
    async with client.responses.stream(model="fake", input="hello", **asked) as stream:
        events = [event async for event in stream]
        if whole.status == "completed":  # of others the client knows no final response
            assert (await stream.get_final_response()).output_text == whole.output_text
    last: Any = events[-1]
    assert last.type == f"response.{whole.status}"
    assert without_identity(last.response) == without_identity(whole)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text


def without_identity(response: BaseModel) -> Any:
    """Ids and times differ between two answers to the same question; the client adds what it parsed."""

    def cleaned(value: Any) -> Any:
        if isinstance(value, dict):
            gone = {"id", "call_id", "created_at", "completed_at", "parsed", "parsed_arguments", "status_code"}
            return {key: cleaned(inner) for key, inner in value.items() if key not in gone and inner is not None}
        return [cleaned(inner) for inner in value] if isinstance(value, list) else value

    return cleaned(response.model_dump())


async def test_a_call_its_result_and_the_answer(client: openai.AsyncOpenAI) -> None:
    """The loop of an agent that sends the whole conversation back, as the client gave it to it."""
    says(f"Let me see.{CALL}")
    conversation: list[Any] = [{"role": "user", "content": "Weather in Oslo?"}]
    made = await client.responses.create(input=conversation, tools=[WEATHER])
    call = made.output[1]
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, call.arguments, call.status) == ("get_weather", OSLO, "completed")
    conversation += made.output
    conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": "4 degrees"})
    says("It is cold.")
    second = await client.responses.create(input=conversation, tools=[WEATHER])
    assert second.output_text == "It is cold."
    assert "Let me see." in prompt()
    assert '"city": "Oslo 🙂"' in prompt()
    assert "4 degrees" in prompt()
    assert prompt().count("<|im_start|>assistant") == 2, "text and call are one message, and the answer begins"


async def test_the_same_loop_with_what_the_server_kept(client: openai.AsyncOpenAI) -> None:
    says(f"Let me see.{CALL}")
    first = await client.responses.create(input="Weather in Oslo?", tools=[WEATHER], instructions="Answer in Latin.")
    assert "Answer in Latin." in prompt()
    call = first.output[1]
    assert isinstance(call, ResponseFunctionToolCall)
    says("It is cold.")
    second = await client.responses.create(
        previous_response_id=first.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "4 degrees"}],
    )
    assert second.previous_response_id == first.id
    assert "4 degrees" in prompt()
    assert "Weather in Oslo?" in prompt()
    assert "Answer in Latin." not in prompt(), "instructions are of one turn"
    third = await client.responses.create(previous_response_id=second.id, input="Thanks.")
    assert "It is cold." in prompt()
    listed = await client.responses.input_items.list(third.id, order="asc")
    assert [item.type for item in listed.data] == [
        "message",
        "message",
        "function_call",
        "function_call_output",
        "message",
        "message",
    ]


async def test_what_is_not_to_be_stored_is_not(client: openai.AsyncOpenAI) -> None:
    made = await client.responses.create(input="hello", store=False)
    assert made.model_extra is not None
    with pytest.raises(openai.NotFoundError) as refused:
        await client.responses.retrieve(made.id)
    assert refused.value.code == "response_not_found"
    with pytest.raises(openai.NotFoundError) as refused:
        await client.responses.create(previous_response_id=made.id, input="more")
    assert refused.value.param == "previous_response_id"


async def test_a_stored_stream_can_be_fetched_and_continued_as_soon_as_its_last_event_came(
    client: openai.AsyncOpenAI,
) -> None:
    stream = await client.responses.create(input="hello", stream=True)
    async for event in stream:
        if event.type == "response.completed":
            fetched = await client.responses.retrieve(event.response.id)
            assert fetched.to_dict() == event.response.to_dict()


async def test_a_custom_tool_gets_text_and_its_result_goes_back(client: openai.AsyncOpenAI) -> None:
    says(f"{TEXT_CALL}")
    made = await client.responses.create(input="2+2?", tools=[CALC])
    call: Any = made.output[0]
    assert (call.type, call.name, call.input) == ("custom_tool_call", "calc", '2 + "2"')
    says("Four.")
    again = await client.responses.create(
        input=[
            {"role": "user", "content": "2+2?"},
            call.to_dict(),
            {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "4"},
        ],
        tools=[CALC],
    )
    assert again.output_text == "Four."
    assert "2 + " in prompt()


async def test_earlier_reasoning_goes_back_packed_or_plain(client: openai.AsyncOpenAI) -> None:
    says("because of Goethe</think>Faust.")
    made = await client.responses.create(
        input="Which?", include=["reasoning.encrypted_content"], store=False, extra_body=THINKING
    )
    thought = made.output[0]
    assert isinstance(thought, ResponseReasoningItem)
    assert thought.encrypted_content is not None
    said: Any = made.output[1].to_dict()
    for sent in (
        thought.to_dict(),
        {"type": "reasoning", "id": thought.id, "summary": [], "encrypted_content": thought.encrypted_content},
    ):
        conversation: Any = [{"role": "user", "content": "Which?"}, sent, said, {"role": "user", "content": "Sure?"}]
        await client.responses.create(input=conversation, extra_body={"enable_response_messages": True})
        shown = await client.responses.create(input=conversation, extra_body={"enable_response_messages": True})
        extra: Any = shown.model_extra
        assert extra["input_messages"][1]["reasoning_content"] == "because of Goethe"
        assert extra["input_messages"][1]["content"] == [{"type": "text", "text": "Faust."}]


async def test_a_conversation_goes_on_from_the_messages_of_a_former_response(client: openai.AsyncOpenAI) -> None:
    says(f"Let me see.{CALL}")
    first = await client.responses.create(
        input="Weather?", instructions="Be kind.", tools=[WEATHER], extra_body={"enable_response_messages": True}
    )
    extra: Any = first.model_extra
    assert [message["role"] for message in extra["input_messages"]] == ["user"]
    await client.responses.create(
        input="And now?",
        extra_body={"previous_input_messages": [*extra["input_messages"], *extra["output_messages"]]},
    )
    assert "Weather?" in prompt()
    assert '"city": "Oslo 🙂"' in prompt()


class Person(BaseModel):
    name: str
    age: int


async def test_structured_output_is_parsed(client: openai.AsyncOpenAI) -> None:
    says('{"name": "Ada", "age": 36}')
    made = await client.responses.parse(model="fake", input="Who?", text_format=Person)
    assert made.output_parsed == Person(name="Ada", age=36)
    spec = ENGINE.requests[-1].params.grammar
    assert spec is not None
    assert (spec.kind, spec.param) == ("json_schema", "text.format.schema")
    assert "age" in spec.rules
    shape: Any = made.text
    assert shape.format.schema_["properties"].keys() == {"name", "age"}


async def test_log_probabilities_are_those_of_the_text(client: openai.AsyncOpenAI) -> None:
    says("hm</think>Yes 🙂")
    made = await client.responses.create(
        input="?", include=["message.output_text.logprobs"], top_logprobs=2, extra_body=THINKING
    )
    part: Any = made.output[1].content[0]  # type: ignore[union-attr, index]
    assert b"".join(bytes(token.bytes) for token in part.logprobs).decode() == part.text
    assert all(len(token.top_logprobs) == 2 for token in part.logprobs)
    assert made.top_logprobs == 2


async def test_forced_calls_are_calls(client: openai.AsyncOpenAI) -> None:
    says(CALL)
    made = await client.responses.create(
        input="?", tools=[WEATHER, CALC], tool_choice={"type": "function", "name": "get_weather"}
    )
    assert ENGINE.requests[-1].params.grammar is not None
    assert made.tool_choice.to_dict() == {"type": "function", "name": "get_weather"}  # type: ignore[union-attr]


async def test_what_does_not_run_here_is_skipped_and_named(client: openai.AsyncOpenAI) -> None:
    items: Any = [
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
        {"type": "mcp_list_tools", "id": "m", "server_label": "s", "tools": []},
        {"role": "user", "content": "hello"},
    ]
    tools: Any = [{"type": "web_search"}, {"type": "mcp", "server_label": "s"}, WEATHER]
    reply = await client.responses.with_raw_response.create(input=items, tools=tools)
    made = reply.parse()
    assert reply.headers["x-skipped-items"] == "web_search_call,mcp_list_tools"
    assert reply.headers["x-skipped-tools"] == "web_search,mcp"
    assert [tool.type for tool in made.tools] == ["web_search", "mcp", "function"]
    listed = await client.responses.input_items.list(made.id, order="asc")
    assert [item.type for item in listed.data] == ["web_search_call", "mcp_list_tools", "message"]
    assert "get_weather" in prompt()
    assert "mcp" not in prompt()


async def test_items_can_be_named_instead_of_sent(client: openai.AsyncOpenAI) -> None:
    """Some clients refer to what they were answered, with or without the response it belongs to."""
    first = await client.responses.create(input="hello")
    reference: Any = {"type": "item_reference", "id": first.output[0].id}
    await client.responses.create(
        input=[{"role": "user", "content": "hello"}, reference, {"role": "user", "content": "more"}]
    )
    assert PARIS in prompt()


async def test_an_engine_that_dies_on_the_way_ends_the_stream_as_failed(client: openai.AsyncOpenAI) -> None:
    ENGINE.dies_after = 3
    events = [event async for event in await client.responses.create(input="hello", stream=True)]
    last: Any = events[-1]
    assert last.type == "response.failed"
    assert (last.response.status, last.response.error.code) == ("failed", "server_error")
    assert last.response.output[0].status == "incomplete"
    with pytest.raises(openai.InternalServerError):
        await client.responses.create(input="hello")


async def test_tokens_are_counted_as_they_would_be_read(client: openai.AsyncOpenAI) -> None:
    asked: Any = {"input": "Weather?", "instructions": "Be brief.", "tools": [WEATHER]}
    counted = await client.responses.input_tokens.count(**asked)
    made = await client.responses.create(**asked)
    assert made.usage is not None
    assert counted.input_tokens == made.usage.input_tokens


async def test_the_oldest_messages_go_where_the_request_lets_them(client: openai.AsyncOpenAI) -> None:
    turns: list[Any] = [{"role": "user", "content": f"number {at} " + "x y z " * 20} for at in range(60)]
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(input=turns)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")
    reply = await client.responses.with_raw_response.create(
        input=turns, instructions="Be brief.", truncation="auto", max_output_tokens=8
    )
    assert reply.parse().truncation == "auto"
    num_dropped = int(reply.headers["x-dropped-messages"])
    assert 0 < num_dropped < 60
    assert "Be brief." in prompt()
    assert f"number {num_dropped} " in prompt()
    assert f"number {num_dropped - 1} " not in prompt()
    assert "number 59 " in prompt()
    one_more = [*turns[num_dropped - 1 :]]
    counted = await client.responses.input_tokens.count(input=one_more, instructions="Be brief.")
    assert counted.input_tokens + 8 > ENGINE.max_model_len, "no more were dropped than had to be"


async def test_what_a_coding_agent_sends_first_is_answered(client: openai.AsyncOpenAI) -> None:
    """Tools of every kind, items without ids, nothing stored, fields of its own; and a probe that says nothing."""
    patch: Any = {"type": "grammar", "syntax": "lark", "definition": "start: begin hunk+ end"}
    asked: Any = {
        "model": "fake",
        "instructions": "You are a coding agent.",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Sandboxed."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "List the files."}]},
            {"type": "reasoning", "summary": [], "content": None, "encrypted_content": "gAAAAABforeign"},
            {"type": "function_call", "name": "shell", "arguments": '{"command": ["ls"]}', "call_id": "call_1"},
            {"type": "function_call_output", "call_id": "call_1", "output": "a.py"},
            {"type": "custom_tool_call", "name": "apply_patch", "input": "*** Begin", "call_id": "call_2"},
            {"type": "custom_tool_call_output", "call_id": "call_2", "output": "Done"},
        ],
        "tools": [
            {"type": "function", "name": "shell", "strict": False, "parameters": {"type": "object"}},
            {"type": "custom", "name": "apply_patch", "description": "Edits files.", "format": patch},
            {"type": "web_search", "external_web_access": False},
            {"type": "local_shell"},
            {"type": "namespace", "name": "mcp", "tools": [{"type": "function", "name": "find"}]},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "session",
        "text": {"verbosity": "low"},
        "client_metadata": {"id": "x"},
    }
    transport = httpx2.ASGITransport(app=app_over(ENGINE))
    hooks: Any = {"response": [lint_stream]}
    async with httpx2.AsyncClient(transport=transport, base_url="http://s", event_hooks=hooks) as http:
        reply = await http.post("/v1/responses", json=asked)
        probe = await http.post("/v1/responses", json={"model": "fake", "input": [], "instructions": ""})
    assert (reply.status_code, probe.status_code) == (200, 200), reply.text + probe.text
    assert reply.headers["x-ignored-params"] == "client_metadata"
    assert reply.headers["x-skipped-tools"] == "web_search,local_shell"
    assert reply.headers["x-unenforced-fields"] == "tools.1.format"
    assert reply.text.rstrip().rpartition("\n")[0].endswith("event: response.completed")
    shown = TOKENIZER.decode(ENGINE.requests[-2].prompt_token_ids)
    assert "mcp__find" in shown
    assert "a.py" in shown
    assert "*** Begin" in shown
    assert "foreign" not in shown


@pytest.mark.parametrize(
    ("asked", "begins"), [("job-1", "resp_job-1"), ("resp_7", "resp_7"), ("a/b c\n", "resp_"), (None, "resp_")]
)
async def test_a_request_names_its_response_if_the_name_is_safe(
    client: openai.AsyncOpenAI, asked: str | None, begins: str
) -> None:
    made = await client.responses.create(input="hello", extra_body={"request_id": asked})
    assert made.id == begins or (begins == "resp_" and len(made.id) == 53)


async def test_a_deadline_ends_a_stream_as_failed() -> None:
    slow = FakeEngine(pause_s=0.02)
    transport = httpx2.ASGITransport(app=app_over(slow))
    hooks: Any = {"response": [lint_stream]}
    async with httpx2.AsyncClient(transport=transport, base_url="http://s", event_hooks=hooks) as http:
        reply = await http.post(
            "/v1/responses", json={"input": "x", "stream": True}, headers={"x-request-timeout-ms": "70"}
        )
    if reply.status_code != 504:  # a busy machine may not have begun by then
        last = json.loads(reply.text.rstrip().rpartition("data: ")[2])
        assert (last["type"], last["response"]["error"]["code"]) == ("response.failed", "server_error")
        assert "was not complete after 0.07 s" in last["response"]["error"]["message"]
