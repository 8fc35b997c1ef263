"""Anthropic's official client against a real `serve` process with the demo model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import Message, MessageParam, ToolParam, ToolUseBlock
from linters import lint_stream as findings_in
from pydantic import BaseModel
from running_server import RunningServer, serving

KEY = "a-key"
GREEDY = {"temperature": 0}
"""Newer clients have no such argument, but older ones, and everybody else, send it."""
MODEL = "specserve-demo"
FRANCE: list[MessageParam] = [{"role": "user", "content": "What is the capital of France?"}]
PARIS = "The capital of France is Paris."
ASKED: list[MessageParam] = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "Weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serving("--api-key", KEY, "--max-model-len", "512") as started:
        started.wait_ready()
        yield started


def client_with(server: RunningServer, **options: Any) -> Anthropic:
    http_client = anthropic.DefaultHttpxClient(event_hooks={"response": [lint_stream]})
    settings: dict[str, Any] = {"api_key": KEY, "max_retries": 0, "http_client": http_client} | options
    return Anthropic(base_url=f"http://127.0.0.1:{server.port}", **settings)


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Anthropic:
    return client_with(server)


def lint_stream(response: Any) -> None:
    """Every stream the client gets keeps the rules of its operation."""
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        text = response.read().decode()
        assert findings_in(text, response.request.url.path, json.loads(response.request.content)) == []


def comparable(message: Message) -> dict[str, Any]:
    """Without what is random, or depends on what was cached before."""
    found = message.to_dict(exclude_unset=False)
    blocks = [{name: value for name, value in block.items() if name != "id"} for block in found["content"]]  # type: ignore[attr-defined]
    ending = {name: found[name] for name in ("role", "model", "stop_reason", "stop_sequence")}
    return ending | {"content": blocks, "output_tokens": message.usage.output_tokens}


def test_a_message_is_answered(client: Anthropic) -> None:
    message = client.messages.create(model=MODEL, max_tokens=40, messages=FRANCE, extra_body=GREEDY)
    (block,) = message.content
    assert block.type == "text"
    assert block.text == PARIS
    assert message.stop_reason == "end_turn"
    assert message._request_id
    assert message._request_id in message.id
    counted = client.messages.count_tokens(model=MODEL, messages=FRANCE)
    usage = message.usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_the_stream_helpers_add_up_to_the_message(client: Anthropic) -> None:
    whole = client.messages.create(model=MODEL, max_tokens=40, messages=FRANCE, extra_body=GREEDY)
    with client.messages.stream(model=MODEL, max_tokens=40, messages=FRANCE, extra_body=GREEDY) as stream:
        assert "".join(stream.text_stream) == PARIS
        assert comparable(stream.get_final_message()) == comparable(whole)
        assert stream.get_final_text() == PARIS


def test_the_events_of_the_helper_come_in_order(client: Anthropic) -> None:
    with client.messages.stream(model=MODEL, max_tokens=40, messages=FRANCE, extra_body=GREEDY) as stream:
        types = [event.type for event in stream]
    assert types[0] == "message_start"
    assert types[1] == "content_block_start"
    assert types[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert {"content_block_delta", "text"} <= set(types)


def test_raw_events_are_read(client: Anthropic) -> None:
    events = client.messages.create(model=MODEL, max_tokens=40, messages=FRANCE, extra_body=GREEDY, stream=True)
    texts = [
        event.delta.text for event in events if event.type == "content_block_delta" and event.delta.type == "text_delta"
    ]
    assert "".join(texts) == PARIS
    assert len(texts) > 1


async def test_the_asynchronous_client(server: RunningServer) -> None:
    async with (
        AsyncAnthropic(base_url=f"http://127.0.0.1:{server.port}", auth_token=KEY) as client,
        client.messages.stream(model=MODEL, max_tokens=40, messages=FRANCE, extra_body=GREEDY) as stream,
    ):
        assert "".join([text async for text in stream.text_stream]) == PARIS
        assert (await stream.get_final_message()).stop_reason == "end_turn"


def called(message: Message) -> ToolUseBlock:
    (block,) = message.content
    assert isinstance(block, ToolUseBlock)
    return block


def test_a_tool_is_called_streamed_as_whole(client: Anthropic) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 60,
        "messages": ASKED,
        "tools": [WEATHER],
        "extra_body": GREEDY,
    }
    whole = client.messages.create(**asked)
    assert (called(whole).name, called(whole).input) == ("get_weather", {"city": "Paris"})
    assert whole.stop_reason == "tool_use"
    with client.messages.stream(**asked) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "input_json"]
        streamed = stream.get_final_message()
    assert comparable(streamed) == comparable(whole)
    assert snapshots[-1] == {"city": "Paris"}
    assert len(snapshots) > 1


def test_the_result_of_a_call_is_answered(client: Anthropic) -> None:
    first = client.messages.create(model=MODEL, max_tokens=60, messages=ASKED, tools=[WEATHER], extra_body=GREEDY)
    turns: list[MessageParam] = [
        *ASKED,
        {"role": "assistant", "content": first.content},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": called(first).id,
                    "content": [{"type": "text", "text": "18 degrees and sunny"}],
                }
            ],
        },
    ]
    second = client.messages.create(model=MODEL, max_tokens=60, messages=turns, tools=[WEATHER], extra_body=GREEDY)
    assert second.stop_reason == "end_turn"
    assert second.content[0].type == "text"
    assert second.content[0].text


def test_the_clients_own_tool_loop(client: Anthropic) -> None:
    asked: list[str] = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """Weather of a city"""
        asked.append(city)
        return "18 degrees and sunny"

    turns: Any = ASKED
    runner = client.beta.messages.tool_runner(
        model=MODEL, max_tokens=100, messages=turns, tools=[get_weather], max_iterations=3, extra_body=GREEDY
    )
    replies = list(runner)
    assert asked[0] == "Paris"
    assert replies[0].stop_reason == "tool_use"
    assert len(replies) > 1


@pytest.mark.parametrize(
    "choice", [{"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "get_weather"}]
)
def test_a_call_can_be_forced(client: Anthropic, choice: Any) -> None:
    message = client.messages.create(
        model=MODEL, max_tokens=80, messages=FRANCE, tools=[WEATHER], tool_choice=choice, extra_body=GREEDY
    )
    assert called(message).name == "get_weather"
    assert isinstance(called(message).input["city"], str)


def test_no_tool_is_called_when_that_is_asked_for(client: Anthropic) -> None:
    message = client.messages.create(
        model=MODEL, max_tokens=60, messages=ASKED, tools=[WEATHER], tool_choice={"type": "none"}, extra_body=GREEDY
    )
    assert {block.type for block in message.content} == {"text"}


def test_thoughts_are_read(client: Anthropic) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 400, "messages": FRANCE}
    variables = GREEDY | {"chat_template_kwargs": {"enable_thinking": True}}
    whole = client.messages.create(**asked, extra_body=variables)
    with client.messages.stream(**asked, extra_body=variables) as stream:
        assert comparable(stream.get_final_message()) == comparable(whole)
    assert whole.content[0].type == "thinking"
    assert whole.content[0].signature
    replayed: list[MessageParam] = [*FRANCE, {"role": "assistant", "content": whole.content}, *FRANCE]
    assert client.messages.create(model=MODEL, max_tokens=30, messages=replayed).content


def test_an_answer_is_parsed_into_a_model(client: Anthropic) -> None:
    class Capital(BaseModel):
        city: str

    message = client.messages.parse(
        model=MODEL, max_tokens=100, messages=FRANCE, output_format=Capital, extra_body=GREEDY
    )
    assert isinstance(message.parsed_output, Capital)


def test_a_stop_sequence_and_a_short_answer(client: Anthropic) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": FRANCE, "extra_body": GREEDY}
    stopped = client.messages.create(**asked, max_tokens=40, stop_sequences=[" is"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", " is")
    short = client.messages.create(**asked, max_tokens=2)
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 2)
    generous = client.messages.create(**asked, max_tokens=65535, timeout=60)
    assert generous.stop_reason == "end_turn"


def test_the_beta_client_is_the_same(client: Anthropic) -> None:
    message = client.beta.messages.create(
        model=MODEL,
        max_tokens=40,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        betas=["context-management-2025-06-27"],
        context_management={"edits": [{"type": "clear_tool_uses_20250919"}]},
        extra_body=GREEDY,
    )
    assert message.content[0].type == "text"
    assert message.content[0].text == PARIS


@pytest.mark.parametrize(
    ("changes", "options", "kind"),
    [
        ({"model": "claude-x"}, {}, anthropic.NotFoundError),
        ({"max_tokens": 0}, {}, anthropic.BadRequestError),
        ({"messages": [{"role": "user", "content": "word " * 2000}]}, {}, anthropic.BadRequestError),
        ({}, {"api_key": "wrong"}, anthropic.AuthenticationError),
        ({"extra_headers": {"x-request-timeout-ms": "1"}, "max_tokens": 400}, {}, anthropic.InternalServerError),
    ],
)
def test_errors_are_those_of_the_client(
    server: RunningServer, changes: dict[str, Any], options: dict[str, Any], kind: type[anthropic.APIStatusError]
) -> None:
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 10, "messages": FRANCE} | changes
    with pytest.raises(kind) as caught:
        client_with(server, **options).messages.create(**asked)
    error = caught.value
    assert isinstance(error.body, dict)
    assert error.body["type"] == "error"
    assert error.body["error"]["type"] == error.type
    assert error.request_id
    assert error.request_id == error.body["request_id"]
