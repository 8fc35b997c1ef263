"""The linter of streamed responses finds what it is for, and nothing in a sound stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_engine import FakeEngine, app_over, client_of
from linters import LINTERS
from response_linter import lint_response

from specserve.generated.operations import OPERATIONS

Events = list[dict[str, Any]]
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


async def streamed() -> str:
    engine = FakeEngine(answer=lambda request: f"why</think>Hello. {CALL}", max_model_len=500)
    asked = {"input": "x", "stream": True, "tools": [TOOL], "chat_template_kwargs": {"enable_thinking": True}}
    async with client_of(app_over(engine)) as client:
        reply = await client.post("/v1/responses", json=asked)
    return reply.text


@pytest.fixture(scope="module")
def sound() -> Events:
    lines = asyncio.run(streamed()).split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def findings(events: Events) -> list[str]:
    text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return lint_response(text, "/v1/responses", {})


def numbered(events: Events) -> Events:
    return [event | {"sequence_number": at} for at, event in enumerate(events)]


def without(kind: str, at: int = 0) -> Callable[[Events], Events]:
    def spoil(events: Events) -> Events:
        place = [number for number, event in enumerate(events) if event["type"] == f"response.{kind}"][at]
        return numbered(events[:place] + events[place + 1 :])

    return spoil


def changed(kind: str, at: int = 0, **fields: Any) -> Callable[[Events], Events]:
    def spoil(events: Events) -> Events:
        place = [number for number, event in enumerate(events) if event["type"] == f"response.{kind}"][at]
        return [event | fields if number == place else event for number, event in enumerate(events)]

    return spoil


def spoiled_end(**fields: Any) -> Callable[[Events], Events]:
    return lambda events: [*events[:-1], events[-1] | {"response": events[-1]["response"] | fields}]


def test_a_sound_stream_has_no_findings(sound: Events) -> None:
    assert findings(sound) == []


@pytest.mark.parametrize(
    "spoil",
    [
        *(
            without(kind)
            for kind in """created in_progress output_item.added content_part.added reasoning_text.delta
            reasoning_text.done content_part.done output_item.done output_text.delta output_text.done
            function_call_arguments.delta function_call_arguments.done completed""".split()
        ),
        without("output_item.done", 2),
        lambda events: events[:3] + events[4:],
        lambda events: numbered([*events, events[-1]]),
        lambda events: numbered([events[1], events[0], *events[2:]]),
        lambda events: [event for event in events if event["type"] != "response.completed"],
        changed("output_item.added", output_index=1),
        changed("output_text.delta", item_id="msg_other"),
        changed("output_text.delta", content_index=1),
        changed("output_text.delta", delta="other"),
        changed("output_text.done", text="other"),
        changed("function_call_arguments.done", arguments="{}"),
        changed("output_text.delta", delta=5),
        changed("output_text.delta", type="response.output_text.dalta"),
        spoiled_end(output=[]),
        spoiled_end(usage=None),
        spoiled_end(status="incomplete"),
        spoiled_end(error={"code": "x", "message": "x"}),
        spoiled_end(incomplete_details={"reason": "max_output_tokens"}),
        spoiled_end(completed_at=None),
        spoiled_end(id="resp_other"),
        spoiled_end(model=None),
    ],
)
def test_a_fault_is_found(sound: Events, spoil: Callable[[Events], Events]) -> None:
    assert findings(spoil(sound)) != []


@pytest.mark.parametrize(
    "text",
    [
        "data: {}\n\n",
        "event: response.created\n\n",
        "event: response.created\ndata: {\n\n",
        'event: response.created\ndata: {"type": "response.queued"}\n\n',
        "event: response.created",
        "",
    ],
)
def test_broken_frames_are_found(text: str) -> None:
    assert lint_response(text, "/v1/responses", {}) != []


def test_every_operation_that_streams_has_its_linter() -> None:
    assert {operation.path for operation in OPERATIONS.values() if operation.events} <= LINTERS.keys()
