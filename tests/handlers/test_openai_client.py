"""The official client against a real `serve` process with the demo model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import (
    ChatCompletionMessageParam,
    ChatCompletionToolChoiceOptionParam,
    ChatCompletionToolParam,
)
from pydantic import BaseModel
from running_server import RunningServer, serving
from stream_linter import lint

KEY = "a-key"
FRANCE: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of France?"}]
PARIS = "The capital of France is Paris."
MODEL = "specserve-demo"
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    },
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serving("--api-key", KEY, "--max-model-len", "512") as started:
        started.wait_ready()
        yield started


@pytest.fixture(scope="module")
def client(server: RunningServer) -> OpenAI:
    hooks: dict[str, Any] = {"response": [lint_stream]}
    return OpenAI(
        base_url=f"http://127.0.0.1:{server.port}/v1",
        api_key=KEY,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(event_hooks=hooks),
    )


def lint_stream(response: Any) -> None:
    """Every stream the client gets keeps the rules of streams."""
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        text = response.read().decode()
        assert lint(text, response.request.url.path, json.loads(response.request.content)) == []


def test_a_chat_answers(client: OpenAI) -> None:
    reply = client.chat.completions.create(model=MODEL, messages=FRANCE, temperature=0)
    assert reply.choices[0].message.content == PARIS
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply._request_id
    assert reply._request_id in reply.id


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("stop", [None, ["France is"], [" Pa", "zzz"]])
@pytest.mark.parametrize("logprobs", [False, True])
def test_a_stream_folds_to_the_whole_answer(client: OpenAI, n: int, stop: list[str] | None, logprobs: bool) -> None:
    options = {"n": n, "stop": stop, "logprobs": logprobs, "seed": 7, "temperature": 0.8}
    if logprobs:
        options["top_logprobs"] = 2
    whole = client.chat.completions.create(model=MODEL, messages=FRANCE, **options)  # type: ignore[call-overload]
    chunks = list(
        client.chat.completions.create(  # type: ignore[call-overload]
            model=MODEL, messages=FRANCE, stream=True, stream_options={"include_usage": True}, **options
        )
    )
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])
    for index in range(n):
        pieces = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        expected = whole.choices[index]
        assert pieces[0].delta.role == "assistant"
        assert "".join(piece.delta.content or "" for piece in pieces) == expected.message.content
        reasons = [piece.finish_reason for piece in pieces]
        assert reasons == [None] * (len(pieces) - 1) + [expected.finish_reason]
        if logprobs:
            streamed = [token for piece in pieces if piece.logprobs for token in piece.logprobs.content]
            assert [token.token for token in streamed] == [token.token for token in expected.logprobs.content]
            assert all(len(token.top_logprobs) == 2 for token in streamed)


def test_a_stop_string_that_is_split_over_tokens_is_never_shown(client: OpenAI) -> None:
    reply = client.chat.completions.create(model=MODEL, messages=FRANCE, temperature=0, stop="al of Fr")
    assert reply.choices[0].message.content == "The capit"
    assert reply.choices[0].finish_reason == "stop"


def test_max_tokens_ends_with_length(client: OpenAI) -> None:
    reply = client.chat.completions.create(model=MODEL, messages=FRANCE, temperature=0, max_tokens=3)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("The capital of", "length")


def test_a_large_max_tokens_is_a_cap_and_no_error(client: OpenAI) -> None:
    reply = client.chat.completions.create(model=MODEL, messages=FRANCE, temperature=0, max_tokens=65_535)
    assert reply.choices[0].message.content == PARIS


BOSTON: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What's the weather in Boston?"}]


def test_a_question_about_the_weather_is_a_call_of_the_tool(client: OpenAI) -> None:
    reply = client.chat.completions.create(model=MODEL, messages=BOSTON, tools=[WEATHER], temperature=0)
    [choice] = reply.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    [call] = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"location": "Boston"}
    with client.chat.completions.stream(model=MODEL, messages=BOSTON, tools=[WEATHER], temperature=0) as stream:
        events = list(stream)
    [streamed] = stream.get_final_completion().choices
    assert streamed.finish_reason == "tool_calls"
    assert streamed.message.tool_calls is not None
    assert [each.function.model_dump(exclude={"parsed_arguments"}) for each in streamed.message.tool_calls] == [
        call.function.model_dump()
    ]
    pieces = [event.arguments_delta for event in events if event.type == "tool_calls.function.arguments.delta"]
    assert "".join(pieces) == call.function.arguments
    assert len([piece for piece in pieces if piece]) > 1


def test_the_result_of_a_call_leads_to_an_answer(client: OpenAI) -> None:
    reply = client.chat.completions.create(model=MODEL, messages=BOSTON, tools=[WEATHER], temperature=0)
    message = reply.choices[0].message
    assert message.tool_calls is not None
    history: list[Any] = [
        *BOSTON,
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": '{"temperature": 21, "sky": "sunny"}'},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=history, tools=[WEATHER], temperature=0)
    assert answer.choices[0].finish_reason == "stop"
    assert "Boston" in (answer.choices[0].message.content or "")


def test_thoughts_are_told_apart_under_both_names(client: OpenAI) -> None:
    options: dict[str, Any] = {
        "model": MODEL,
        "messages": BOSTON,
        "tools": [WEATHER],
        "temperature": 0,
        "extra_body": {"chat_template_kwargs": {"enable_thinking": True}},
    }
    message = client.chat.completions.create(**options).choices[0].message
    thought = message.model_dump()["reasoning"]
    assert "Boston" in thought
    assert "<" not in thought
    assert message.model_dump()["reasoning_content"] == thought
    assert message.tool_calls
    deltas = [chunk.choices[0].delta.model_dump() for chunk in client.chat.completions.create(**options, stream=True)]
    for name in ("reasoning", "reasoning_content"):
        assert "".join(delta.get(name) or "" for delta in deltas) == thought


BOSTON: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What's the weather in Boston?"}]
CHOICES: list[tuple[ChatCompletionToolChoiceOptionParam, str]] = [
    ("required", "tool_calls"),
    ({"type": "function", "function": {"name": "get_weather"}}, "stop"),
]


@pytest.mark.parametrize(("choice", "reason"), CHOICES, ids=["required", "named"])
def test_a_forced_call_is_written_by_the_model(
    client: OpenAI, choice: ChatCompletionToolChoiceOptionParam, reason: str
) -> None:
    reply = client.chat.completions.create(
        model=MODEL, messages=BOSTON, tools=[WEATHER], tool_choice=choice, temperature=0
    )
    (call,) = reply.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"location": "Boston"})
    assert (reply.choices[0].finish_reason, reply.choices[0].message.content) == (reason, None)


def test_the_clients_stream_of_a_forced_call_adds_up(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=BOSTON, tools=[WEATHER], tool_choice="required", temperature=0
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion().choices[0]
    deltas = [event.arguments_delta for event in events if event.type == "tool_calls.function.arguments.delta"]
    (done,) = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert len(deltas) > 2
    assert json.loads("".join(deltas)) == json.loads(done.arguments) == {"location": "Boston"}
    assert (final.finish_reason, done.name) == ("tool_calls", "get_weather")


def test_the_client_parses_calls_and_answers_into_its_own_types(client: OpenAI) -> None:
    class Place(BaseModel):
        location: str

    class Person(BaseModel):
        name: str
        age: int

    tool = openai.pydantic_function_tool(Place, name="get_weather")
    called = client.chat.completions.parse(
        model=MODEL, messages=BOSTON, tools=[tool], tool_choice="required", temperature=0
    )
    (call,) = called.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == Place(location="Boston")
    ask: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Invent a person."}]
    answered = client.chat.completions.parse(model=MODEL, messages=ask, response_format=Person, temperature=0)
    assert isinstance(answered.choices[0].message.parsed, Person)
    with client.chat.completions.stream(model=MODEL, messages=ask, response_format=Person, temperature=0) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == answered.choices[0].message.parsed


def test_a_seed_repeats_and_siblings_differ(client: OpenAI) -> None:
    def ask() -> list[str]:
        reply = client.completions.create(
            model=MODEL, prompt="The", max_tokens=12, n=4, seed=11, temperature=2.0, extra_body={"ignore_eos": True}
        )
        return [choice.text for choice in reply.choices]

    first = ask()
    assert first == ask()
    assert len(set(first)) > 1


def test_prompts_in_all_forms_give_their_choices_in_order(client: OpenAI) -> None:
    texts = client.completions.create(model=MODEL, prompt=["Hello", "What is"], n=2, max_tokens=2, temperature=0)
    assert [choice.index for choice in texts.choices] == [0, 1, 2, 3]
    assert texts.choices[0].text == texts.choices[1].text
    ids = client.completions.create(model=MODEL, prompt=[[300, 301], [302]], max_tokens=1, temperature=0)
    assert [choice.index for choice in ids.choices] == [0, 1]
    assert ids.usage is not None
    assert ids.usage.prompt_tokens == 3


def test_completion_logprobs_name_the_sampled_token_among_the_best(client: OpenAI) -> None:
    reply = client.completions.create(model=MODEL, prompt="What is", max_tokens=4, temperature=0, logprobs=2)
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.top_logprobs is not None
    assert logprobs.token_logprobs is not None
    assert "".join(logprobs.tokens) == reply.choices[0].text
    for token, value, best in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert best[token] == value == max(best.values())


def test_echo_repeats_the_prompt(client: OpenAI) -> None:
    reply = client.completions.create(model=MODEL, prompt="What is", max_tokens=2, temperature=0, echo=True)
    assert reply.choices[0].text.startswith("What is")
    alone = client.completions.create(model=MODEL, prompt="What is", max_tokens=0, echo=True)
    assert (alone.choices[0].text, alone.choices[0].finish_reason) == ("What is", "length")


def test_texts_are_scored_without_being_continued(client: OpenAI) -> None:
    """The likelier a model finds a sentence, the better it knows it."""
    texts = [PARIS, "The capital of France is three of a."]
    reply = client.completions.create(model=MODEL, prompt=texts, echo=True, logprobs=0, max_tokens=0)
    scores = []
    for choice, text in zip(reply.choices, texts, strict=True):
        assert choice.text == text
        assert choice.logprobs is not None
        assert choice.logprobs.token_logprobs is not None
        assert choice.logprobs.token_logprobs[0] is None
        scores.append(sum(choice.logprobs.token_logprobs[1:]))
    assert scores[0] > scores[1]
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 0


def test_the_best_of_several_is_one_of_them(client: OpenAI) -> None:
    options = {"model": MODEL, "prompt": "hello", "max_tokens": 6, "seed": 5, "temperature": 1.5}
    several = client.completions.create(n=4, **options)  # type: ignore[call-overload]
    best = client.completions.create(best_of=4, **options)  # type: ignore[call-overload]
    assert best.choices[0].text in {choice.text for choice in several.choices}
    assert best.usage.completion_tokens == several.usage.completion_tokens


def test_models_are_listed_and_described(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, f"{MODEL}-embedder", f"{MODEL}-reranker"]
    assert client.models.retrieve(MODEL).id == MODEL


def test_errors_have_the_classes_the_client_knows(server: RunningServer, client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="specserv-demo", messages=FRANCE)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert "did you mean specserve-demo" in unknown.value.message
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=MODEL, messages=FRANCE, temperature=3)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=FRANCE, extra_body={"watermarking": True})
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "watermarking")
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model=MODEL, prompt="word " * 2000)
    assert long.value.code == "context_length_exceeded"
    assert "512" in long.value.message
    stranger = OpenAI(base_url=str(client.base_url), api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as denied:
        stranger.models.list()
    assert denied.value.code == "invalid_api_key"


def test_a_request_id_of_the_client_is_kept(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model=MODEL, messages=FRANCE, max_tokens=2, extra_headers={"X-Request-Id": "mine-1"}
    )
    assert reply.id == "chatcmpl-mine-1"
    assert reply._request_id == "mine-1"


def test_leaving_a_stream_leaves_the_server_well(client: OpenAI) -> None:
    stream = client.completions.create(
        model=MODEL, prompt="Hello", max_tokens=400, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    stream.close()
    reply = client.chat.completions.create(model=MODEL, messages=FRANCE, temperature=0)
    assert reply.choices[0].message.content == PARIS
