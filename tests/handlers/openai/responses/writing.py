"""Responses written from text in any pieces, without an engine: what a stream of them would be on the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Any

from response_linter import lint_response

from specserve.engine.api import FinishReason, TokenLogprobs
from specserve.generated import schemas
from specserve.handlers.chat.answer_pieces import AnswerParser
from specserve.handlers.chat.events import ChatEvent, ChatFinished, ContentDelta
from specserve.handlers.chat.read_answers import AnswersReader, read_answers
from specserve.handlers.chat.tool_ids import new_call_id
from specserve.handlers.openai.reply import UsageCount
from specserve.handlers.openai.responses.events import ResponseWriter
from specserve.handlers.openai.responses.tools import KnownTool
from specserve.handlers.sse import event, payload_of

Json = Any


def first() -> schemas.Response:
    """A response that nothing was asked for in."""
    nothing = dict.fromkeys(schemas.Response.model_fields)
    return schemas.Response.model_validate(
        {name: None for name in nothing if schemas.Response.model_fields[name].is_required()}
        | {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": "in_progress",
            "background": False,
            "model": "m",
            "output": [],
            "parallel_tool_calls": True,
            "store": True,
            "temperature": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_logprobs": 0,
            "top_p": 1.0,
            "truncation": "disabled",
        }
    )


def nobody_asked(token: TokenLogprobs) -> schemas.TokenLogprobs:
    raise AssertionError("no log probabilities were asked for")


def writer(known: dict[str, KnownTool] | None = None, **options: Any) -> ResponseWriter:
    return ResponseWriter(response=first(), count=UsageCount(7, 1), known=known or {}, describe=nobody_asked, **options)


async def pieces(texts: Sequence[str], reason: FinishReason) -> AsyncGenerator[ChatEvent, None]:
    for at, text in enumerate(texts):
        yield ContentDelta(index=0, text=text, token_ids=(at,), num_prompt_tokens=7)
    yield ChatFinished(index=0, reason=reason)


async def written(
    texts: Sequence[str],
    parser: Callable[[], AnswerParser] | None,
    reason: FinishReason = FinishReason.STOP,
    *,
    max_calls: int | None = None,
    **options: Any,
) -> list[Json]:
    """The events of an answer that comes in these pieces, after they were held against the rules of streams."""
    made = writer(max_calls=max_calls, **options)
    events = pieces(texts, reason)
    if parser is not None:
        events = read_answers(events, AnswersReader(parser, partial(new_call_id, short=False)))
    found = list(made.begun())
    async for one in events:
        found += list(made.feed(one))
    text = b"".join(event(payload_of(one), one.type) for one in found).decode()
    assert lint_response(text, "/v1/responses", {}) == []
    return [json.loads(payload_of(one)) for one in found]


def comparable(response: Json) -> Json:
    """Without ids and counts, which differ from run to run and cut to cut."""
    items = [
        {name: value for name, value in item.items() if name not in ("id", "call_id")} for item in response["output"]
    ]
    return {"output": items, **{name: response[name] for name in ("status", "incomplete_details", "error")}}
