"""Events written around their text are the events the generated types write."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fake_engine import FakeEngine, app_over, client_of
from hypothesis import given
from hypothesis import strategies as st

from specserve.generated import schemas
from specserve.generated.base import ApiModel, Serialised
from specserve.generated.errors import EngineDead
from specserve.handlers.openai.reply import UsageCount
from specserve.handlers.sse import EventStream, TextEvents, payload_of

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ['"', "\\", "\\u0000", "\x00\x1f\x7f", "</script>", "\u2028", "data: x\n\n", "\r\n", "👩‍👧", '","content":"']
)


def chunk(identity: str, delta: schemas.ChoiceDelta, **more: Any) -> schemas.ChatCompletionChunk:
    choice = schemas.ChunkChoice(index=3, delta=delta, finish_reason=None)
    return schemas.ChatCompletionChunk(
        id=identity, object="chat.completion.chunk", created=1, model=identity, choices=[choice], **more
    )


@given(identity=TEXT, texts=st.lists(TEXT, min_size=1))
def test_any_text_is_written_as_its_type_writes_it(identity: str, texts: list[str]) -> None:
    def said(text: str) -> schemas.ChatCompletionChunk:
        return chunk(identity, schemas.ChoiceDelta(content=text), usage=None)

    def thought(text: str) -> schemas.ChatCompletionChunk:
        return chunk(identity, schemas.ChoiceDelta(reasoning=text, reasoning_content=text))

    for event_with in (said, thought):
        write = TextEvents(event_with)
        for text in texts:
            assert payload_of(write(text)) == event_with(text).model_dump_json(exclude_unset=True).encode()


@given(identity=TEXT, texts=st.lists(TEXT, min_size=1), counts=st.tuples(*[st.integers(0, 2**40)] * 4))
def test_usage_beside_any_text_is_written_as_its_type_writes_it(
    identity: str, texts: list[str], counts: tuple[int, ...]
) -> None:
    count = UsageCount(counts[0], 1, counts[1], counts[2], {0: counts[3]})
    write = TextEvents(lambda text: chunk(identity, schemas.ChoiceDelta(content=text), usage=None))
    for text in texts:
        expected = chunk(identity, schemas.ChoiceDelta(content=text), usage=count.usage())
        assert payload_of(write(text, count.json())) == expected.model_dump_json(exclude_unset=True).encode()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"stream_options": {"include_usage": True}},
    {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    {"n": 2, "temperature": 1.0},
    {"return_token_ids": True},
    {"echo": True},
]


@pytest.mark.parametrize("options", [*OPTIONS, {"logprobs": True, "top_logprobs": 1}])
async def test_every_event_of_a_chat_is_what_its_type_would_write(options: dict[str, Any]) -> None:
    answers = ['Say "hi" \\ to 👩‍👧.', "Second\n\nline"]
    engine = FakeEngine(answer=lambda request: answers[request.index])
    body = {"messages": [{"role": "user", "content": "hello"}], "stream": True} | options
    async with client_of(app_over(engine)) as client:
        reply = await client.post("/v1/chat/completions", json=body, headers={"x-request-id": "a.b-c"})
    *events, end, rest = reply.text.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    said = ["", ""]
    for event in events:
        payload = event.removeprefix("data: ")
        read = schemas.ChatCompletionChunk.model_validate_json(payload)
        assert read.model_dump_json(exclude_unset=True) == payload
        assert read.id == "chatcmpl-a.b-c"
        for choice in read.choices:
            said[choice.index] += choice.delta.content or ""
    assert said[: options.get("n", 1)] == answers[: options.get("n", 1)]


class Spoken(ApiModel):
    type: str
    text: str


async def test_named_events_have_their_type_on_a_line_before_and_go_out_in_one_write() -> None:
    async def items() -> AsyncGenerator[Spoken | Serialised[Spoken], None]:
        yield Spoken(type="said", text="a")
        yield Serialised(b'{"type":"sung","text":"b"}', "sung")
        raise EngineDead("gone")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    stream = EventStream(send, end_mark=False, keep_alive_s=60, to_error=lambda error: error, headers={}, is_named=True)
    await stream.send_all(items())
    first, second, last = [message["body"] for message in sent[1:]]
    assert first == b'event: said\ndata: {"type":"said","text":"a"}\n\n'
    assert second == b'event: sung\ndata: {"type":"sung","text":"b"}\n\n'
    assert last.startswith(b'event: error\ndata: {"error":{')
    assert last.endswith(b"\n\n")
    assert sent[-1]["more_body"] is False


@pytest.mark.parametrize("options", [*OPTIONS, {"logprobs": 1}, {"prompt": ["hello", "world"]}])
async def test_every_event_of_a_completion_is_what_its_type_would_write(options: dict[str, Any]) -> None:
    answers = ['Say "hi" \\ to 👩‍👧.', "Second\n\nline"]
    engine = FakeEngine(answer=lambda request: answers[request.index])
    body = {"prompt": "hello", "stream": True, "max_tokens": 100} | options
    async with client_of(app_over(engine)) as client:
        reply = await client.post("/v1/completions", json=body, headers={"x-request-id": "a.b-c"})
    *events, end, rest = reply.text.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    said = ["", ""]
    for number, event in enumerate(events):
        payload = event.removeprefix("data: ")
        read = schemas.Completion.model_validate_json(payload)
        assert read.model_dump_json(exclude_unset=True) == payload
        if "continuous_usage_stats" in options.get("stream_options", {}):
            assert read.usage is not None
            assert read.usage.prompt_tokens + read.usage.completion_tokens == read.usage.total_tokens
            assert read.usage.completion_tokens >= min(number, 1)
        for choice in read.choices:
            said[choice.index] += choice.text
    num_choices = 2 if "n" in options or isinstance(body["prompt"], list) else 1
    assert said[:num_choices] == [("hello" if "echo" in options else "") + answer for answer in answers[:num_choices]]


@pytest.mark.parametrize(
    "options",
    [
        *({name: value for name, value in each.items() if name != "stream_options"} for each in OPTIONS),
        {"logprobs": True, "top_logprobs": 1},
        {"stop": ["hi"]},
        {"max_tokens": 2},
        {"return_prompt_text": True},
    ],
)
async def test_a_whole_chat_is_what_its_type_would_write(options: dict[str, Any]) -> None:
    answers = ['Say "hi" \\ to 👩‍👧.', "Second\n\nline"]
    engine = FakeEngine(answer=lambda request: answers[request.index])
    body = {"messages": [{"role": "user", "content": "hello"}]} | options
    async with client_of(app_over(engine)) as client:
        reply = await client.post("/v1/chat/completions", json=body, headers={"x-request-id": "a.b-c"})
    read = schemas.ChatCompletion.model_validate_json(reply.text)
    assert read.model_dump_json(exclude_unset=True) == reply.text
    assert read.id == "chatcmpl-a.b-c"
    assert len(read.choices) == options.get("n", 1)
    assert all(answers[choice.index].startswith(choice.message.content or "-") for choice in read.choices)
    assert read.usage is not None
    assert read.usage.total_tokens == read.usage.prompt_tokens + read.usage.completion_tokens > 0
