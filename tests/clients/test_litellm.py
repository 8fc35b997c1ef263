"""LiteLLM's SDK under both prefixes that point at a server like this one, and the errors it makes of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import litellm
import pytest
from demo_server import KEY, MODEL
from scripted_model import ScriptedServer, call, reciting

from specserve.handlers.limits import Limits

PREFIXES = ["openai", "hosted_vllm"]
ASK = [{"role": "user", "content": "What is the capital of France?"}]
PARIS = "The capital of France is Paris."
BOSTON = [{"role": "user", "content": "What's the weather in Boston?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    },
}


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    with reciting([("Boston", call("get_weather", location="Boston"))], max_model_len=512) as started:
        yield started


@pytest.fixture(params=PREFIXES)
def options(request: pytest.FixtureRequest, server: ScriptedServer) -> dict[str, Any]:
    return {"model": f"{request.param}/{MODEL}", "api_base": server.base_url, "api_key": KEY, "max_retries": 0}


def test_a_chat_answers_whole_and_streamed(options: dict[str, Any]) -> None:
    whole = litellm.completion(messages=ASK, **options)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (PARIS, "stop")
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(litellm.completion(messages=ASK, stream=True, stream_options={"include_usage": True}, **options))
    built = litellm.stream_chunk_builder(chunks, messages=ASK)
    assert built is not None
    assert built.choices[0].message.content == PARIS
    assert (built.usage.prompt_tokens, built.usage.completion_tokens) == (
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
    )


async def test_so_it_does_asynchronously(options: dict[str, Any]) -> None:
    whole = await litellm.acompletion(messages=ASK, **options)
    assert whole.choices[0].message.content == PARIS
    stream = await litellm.acompletion(messages=ASK, stream=True, **options)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == PARIS


def test_a_call_is_a_call_whole_and_streamed(options: dict[str, Any]) -> None:
    whole = litellm.completion(messages=BOSTON, tools=[WEATHER], **options)
    streamed = litellm.stream_chunk_builder(
        list(litellm.completion(messages=BOSTON, tools=[WEATHER], stream=True, **options))
    )
    for answer in (whole, streamed):
        assert answer.choices[0].finish_reason == "tool_calls"
        (made,) = answer.choices[0].message.tool_calls
        assert (made.function.name, json.loads(made.function.arguments)) == ("get_weather", {"location": "Boston"})


def test_thoughts_are_found_under_its_own_name(options: dict[str, Any]) -> None:
    said = "I know that.\n</think>\n\n" + PARIS
    with reciting([("<think>", [said])]) as thinking:
        answer = litellm.completion(
            messages=ASK,
            **options | {"api_base": thinking.base_url},
            extra_body={"chat_template_kwargs": {"enable_thinking": True}},
        )
    assert answer.choices[0].message.reasoning_content.strip() == "I know that."
    assert answer.choices[0].message.content.strip() == PARIS


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"messages": [{"role": "user", "content": "word " * 2000}]}, litellm.ContextWindowExceededError),
        ({"temperature": 3}, litellm.BadRequestError),
        ({"model": "not-here"}, litellm.NotFoundError),
        ({"api_key": "wrong"}, litellm.AuthenticationError),
    ],
    ids=["too long", "bad value", "unknown model", "wrong key"],
)
def test_its_errors_are_of_their_own_kind(options: dict[str, Any], change: dict[str, Any], error: type) -> None:
    prefix = options["model"].split("/")[0]
    if "model" in change:
        change = {"model": f"{prefix}/{change['model']}"}
    with pytest.raises(error) as raised:
        litellm.completion(**{"messages": ASK} | options | change)
    assert raised.type is error


def test_a_client_over_its_share_meets_a_rate_limit(options: dict[str, Any]) -> None:
    with reciting([], limits=Limits(max_open_per_client=1)) as narrow:
        narrow.engine.pause_s = 0.1
        options |= {"api_base": narrow.base_url}
        first = litellm.completion(messages=ASK, stream=True, **options)
        next(iter(first))
        with pytest.raises(litellm.RateLimitError):
            litellm.completion(messages=ASK, **options)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in first) in PARIS
