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


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stream_options": {"include_usage": True}},
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"n": 2, "temperature": 1.0},
        {"logprobs": True, "top_logprobs": 1},
        {"return_token_ids": True},
    ],
)
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
