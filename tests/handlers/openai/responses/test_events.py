"""Whatever an answer says and however it is cut, its events are legal and add up to the same response."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from response_linter import lint_response
from writing import comparable, pieces, writer, written

from specserve.engine.api import FinishReason
from specserve.generated.errors import EngineDead, InvalidPrompt
from specserve.handlers.chat.answer_formats import AnswerFormats
from specserve.handlers.chat.events import (
    ChatFinished,
    ContentDelta,
    ReasoningDelta,
    ToolCallArguments,
    ToolCallStart,
)
from specserve.handlers.chat.reasoning_formats.registry import REASONING_FORMATS
from specserve.handlers.chat.tool_formats.registry import TOOL_FORMATS
from specserve.handlers.openai.responses.tools import KnownTool
from specserve.handlers.sse import event, payload_of

ROME = '{"city": "Rome 🙂"}'
CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {ROME}}}\n</tool_call>'
TEXT_CALL = '<tool_call>\n{"name": "calc", "arguments": {"input": "2 \\u002b \\"2\\"\\n\\ud83d\\ude42"}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("get_weather", "calc")]
KNOWN = {"get_weather": KnownTool("function", "get_weather"), "calc": KnownTool("custom", "calc")}
FORMATS = AnswerFormats(tools=TOOL_FORMATS["hermes"], reasoning=REASONING_FORMATS["deepseek_r1"])
PARSER = FORMATS.parser(TOOLS, "")
FRAGMENTS = [
    "Hello.",
    " ",
    "\n",
    "🙂",
    "é",
    "<think>",
    "</think>",
    CALL,
    TEXT_CALL,
    "<tool_call>",
    "</tool_call>",
    "<",
    "{",
]
ANSWERS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=6).map("".join)


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[begin:end] for begin, end in pairwise(edges)]


@given(
    text=ANSWERS,
    places=st.lists(st.integers(0, 1000), max_size=12),
    reason=st.sampled_from([FinishReason.STOP, FinishReason.LENGTH]),
    max_calls=st.none() | st.integers(1, 2),
)
@settings(max_examples=300, deadline=None)
async def test_any_cut_of_any_answer_writes_a_legal_stream_of_the_same_response(
    text: str, places: list[int], reason: FinishReason, max_calls: int | None
) -> None:
    options: Any = {"known": KNOWN, "max_calls": max_calls}
    whole = await written([text], PARSER, reason, **options)
    pieced = await written(cut(text, places), PARSER, reason, **options)
    assert comparable(pieced[-1]["response"]) == comparable(whole[-1]["response"])
    assert [event["sequence_number"] for event in pieced] == list(range(len(pieced)))


@pytest.mark.parametrize("kind", [str, list])
async def test_reasoning_text_and_calls_become_items_in_their_order(kind: type) -> None:
    text = f"why</think>Let me see.{CALL}{TEXT_CALL}"
    events = await written([text] if kind is str else list(text), PARSER, known=KNOWN)
    thought, said, call, custom = events[-1]["response"]["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "why"}]
    assert (thought["type"], thought["summary"], thought["status"]) == ("reasoning", [], "completed")
    assert (said["type"], said["content"][0]["text"], said["status"]) == ("message", "Let me see.", "completed")
    assert (call["type"], call["name"], call["arguments"]) == ("function_call", "get_weather", ROME)
    assert (custom["type"], custom["name"], custom["input"]) == ("custom_tool_call", "calc", '2 + "2"\n🙂')
    assert [item["id"].split("_")[0] for item in (thought, said, call, custom)] == ["rs", "msg", "fc", "ctc"]
    assert call["call_id"].startswith("call_")


async def test_an_answer_without_text_is_an_empty_message() -> None:
    *_, last = await written([""], PARSER)
    (message,) = last["response"]["output"]
    assert (message["content"][0]["text"], message["status"]) == ("", "completed")


async def test_what_the_limit_cuts_is_incomplete_and_so_is_the_response() -> None:
    for text, kind in (("why", "reasoning"), ("a</think>Hel", "message"), (f"a</think>{CALL[:60]}", "function_call")):
        *_, last = await written(list(text), PARSER, FinishReason.LENGTH, known=KNOWN)
        assert last["type"] == "response.incomplete"
        assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
        item = last["response"]["output"][-1]
        assert (item["type"], item["status"]) == (kind, "incomplete")


async def test_a_call_that_was_whole_when_the_limit_came_is_complete() -> None:
    *_, last = await written([f"a</think>{CALL}"], PARSER, FinishReason.LENGTH, known=KNOWN)
    assert last["type"] == "response.incomplete"
    assert last["response"]["output"][-1]["status"] == "completed"


async def test_calls_beyond_the_limit_are_left_out() -> None:
    for limit in (1, 2):
        *_, last = await written([f"a</think>{CALL}{CALL}{CALL}"], PARSER, known=KNOWN, max_calls=limit)
        assert [item["type"] for item in last["response"]["output"]] == ["reasoning", *["function_call"] * limit]


async def test_tools_of_a_namespace_are_called_by_their_own_names() -> None:
    known = {"get_weather": KnownTool("function", "weather", "tools")}
    *_, last = await written([f"</think>{CALL}"], PARSER, known=known)
    call = last["response"]["output"][-1]
    assert (call["namespace"], call["name"]) == ("tools", "weather")


async def test_reasoning_is_packed_for_the_next_turn_only_when_that_was_asked_for() -> None:
    for seals in (False, True):
        *_, last = await written(["why</think>x"], PARSER, seals=seals)
        assert ("encrypted_content" in last["response"]["output"][0]) is seals


@pytest.mark.parametrize(
    ("error", "code"),
    [(EngineDead("the engine has stopped"), "server_error"), (InvalidPrompt("no", param="input"), "invalid_prompt")],
)
@pytest.mark.parametrize("text", ["", "wh", "why</think>Hel", f"why</think>{CALL[:60]}"])
async def test_an_error_ends_a_stream_as_failed_wherever_it_comes(text: str, error: Any, code: str) -> None:
    made = writer(KNOWN)
    parser = PARSER() if PARSER is not None else None
    assert parser is not None
    found = list(made.begun())
    for one in (ReasoningDelta(index=0, text="why"), ContentDelta(index=0, text=text, token_ids=(1,))):
        found += made.feed(one)
    found += made.failed(error)
    wire = b"".join(event(payload_of(one), one.type) for one in found).decode()
    assert lint_response(wire, "/v1/responses", {}) == []
    failed = json.loads(payload_of(found[-1]))["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", code)
    assert failed["output"][0]["content"][0]["text"] == "why"


CHAT_EVENTS = st.one_of(
    st.builds(ContentDelta, index=st.just(0), text=st.sampled_from(["", "a", "b"]), token_ids=st.just((1,))),
    st.builds(ReasoningDelta, index=st.just(0), text=st.sampled_from(["", "x"])),
    st.just(None),
)


@given(steps=st.lists(CHAT_EVENTS, max_size=12), fails=st.booleans(), max_calls=st.none() | st.integers(1, 3))
@settings(max_examples=300, deadline=None)
def test_no_order_of_what_happens_makes_an_illegal_stream(steps: list[Any], fails: bool, max_calls: int | None) -> None:
    """None stands for a call, told at once."""
    made = writer(KNOWN, max_calls=max_calls)
    found = [*made.begun()]
    num_calls = 0
    for step in steps:
        if step is None:
            name = ("get_weather", "calc", "unknown")[num_calls % 3]
            found += made.feed(ToolCallStart(index=0, call_index=num_calls, call_id=f"call_{num_calls}", name=name))
            found += made.feed(ToolCallArguments(index=0, call_index=num_calls, text='{"input": "1"}'))
            num_calls += 1
        else:
            found += made.feed(step)
    found += made.failed(EngineDead("gone")) if fails else made.feed(ChatFinished(index=0, reason=FinishReason.STOP))
    wire = b"".join(event(payload_of(one), one.type) for one in found).decode()
    assert lint_response(wire, "/v1/responses", {}) == []
    with pytest.raises(RuntimeError):
        list(made.feed(ContentDelta(index=0, text="more")))


async def test_a_response_in_the_background_begins_queued() -> None:
    made = writer()
    found = [*made.queued(), *made.begun()]
    async for one in pieces(["Hi"], FinishReason.STOP):
        found += made.feed(one)
    wire = b"".join(event(payload_of(one), one.type) for one in found).decode()
    assert lint_response(wire, "/v1/responses", {}) == []
    assert [one.type for one in found[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert [one.response.status for one in found[:3]] == ["queued", "queued", "in_progress"]
