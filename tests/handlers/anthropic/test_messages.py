"""Messages as they come back: blocks in order, why they end, what they took; streamed and whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fake_engine import TOKENIZER, FakeEngine
from hypothesis import given, settings
from hypothesis import strategies as st
from message_linter import lint_message
from messaging import HELLO, PATH, THINK, WEATHER, ask, engine_of, events_of, folded, post

from specserve.engine.api import FinishReason
from specserve.handlers.anthropic.blocks import Blocks, Closed, Grown, Opened
from specserve.handlers.chat.events import (
    ChatEvent,
    ChatFinished,
    ContentDelta,
    ReasoningDelta,
    ToolCallArguments,
    ToolCallStart,
)
from specserve.handlers.generation_defaults import GenerationDefaults

PARIS = "The capital of France is Paris."
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome 🙂"}}\n</tool_call>'
TOOLS: dict[str, Any] = HELLO | {"tools": [WEATHER]}


async def test_a_text_is_one_block() -> None:
    engine = engine_of(PARIS)
    message = await ask(engine, HELLO)
    assert message["content"] == [{"type": "text", "text": PARIS}]
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "fake")
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    assert message["id"].startswith("msg_")


async def test_usage_tells_what_was_read_anew_and_what_was_found() -> None:
    engine = engine_of(PARIS, num_cached=lambda request: 5)
    usage = (await ask(engine, HELLO))["usage"]
    prompt = engine.requests[0].prompt_token_ids
    assert usage["cache_read_input_tokens"] == 5
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == len(prompt)
    assert usage["output_tokens"] == len(TOKENIZER.encode(PARIS, add_special_tokens=False)) + 1
    counted = await post(engine, {"messages": HELLO["messages"]}, path=f"{PATH}/count_tokens")
    assert counted.json() == {"input_tokens": len(prompt)}


async def test_an_empty_answer_is_an_empty_text() -> None:
    assert (await ask(engine_of(""), HELLO))["content"] == [{"type": "text", "text": ""}]


async def test_an_answer_of_white_space_is_that() -> None:
    assert (await ask(engine_of(" \n"), HELLO))["content"] == [{"type": "text", "text": " \n"}]


async def test_a_call_is_a_block_with_its_input() -> None:
    message = await ask(engine_of(CALL), TOOLS)
    (block,) = message["content"]
    assert (block["type"], block["name"], block["input"]) == ("tool_use", "get_weather", {"city": "Rome 🙂"})
    assert block["id"].startswith("toolu_")
    assert message["stop_reason"] == "tool_use"


async def test_text_calls_and_text_keep_their_order() -> None:
    message = await ask(engine_of(f"Let me see.\n{CALL}\n{CALL}\nThat is all."), TOOLS)
    kinds = [block["type"] for block in message["content"]]
    assert kinds == ["text", "tool_use", "tool_use", "text"]
    assert message["content"][0]["text"].strip() == "Let me see."
    assert message["content"][3]["text"].strip() == "That is all."


async def test_a_call_without_arguments_has_an_empty_input() -> None:
    call = '<tool_call>\n{"name": "get_weather", "arguments": {}}\n</tool_call>'
    (block,) = (await ask(engine_of(call), TOOLS))["content"]
    assert block["input"] == {}


async def test_at_most_one_call_when_that_is_asked_for() -> None:
    choice = {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    message = await ask(engine_of(CALL + CALL), TOOLS | choice)
    assert [block["type"] for block in message["content"]] == ["tool_use"]


@pytest.mark.parametrize("num_tokens", range(1, 60, 3))
async def test_a_message_that_is_cut_anywhere_is_the_same_streamed_and_whole(num_tokens: int) -> None:
    message = await ask(engine_of(f"Let me see. {CALL}"), TOOLS | {"max_tokens": num_tokens})
    assert message["usage"]["output_tokens"] <= num_tokens
    assert message["stop_reason"] in ("max_tokens", "tool_use")


async def test_a_stop_sequence_is_told() -> None:
    message = await ask(engine_of(PARIS), HELLO | {"stop_sequences": ["Rome", " France"]})
    assert message["content"] == [{"type": "text", "text": "The capital of"}]
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", " France")


async def test_a_full_context_is_told_apart_from_max_tokens() -> None:
    longer = " word" * 900
    assert (await ask(engine_of(longer), HELLO | {"max_tokens": 5}))["stop_reason"] == "max_tokens"
    message = await ask(engine_of(longer, max_model_len=64), HELLO | {"max_tokens": 32000})
    assert message["stop_reason"] == "model_context_window_exceeded"


async def test_the_operators_ceiling_is_max_tokens() -> None:
    defaults = GenerationDefaults(max_tokens_ceiling=4)
    assert (await ask(engine_of(" word" * 9), HELLO, defaults=defaults))["stop_reason"] == "max_tokens"


async def test_what_was_left_of_max_tokens_is_in_a_header() -> None:
    reply = await post(engine_of(PARIS, max_model_len=64), HELLO | {"max_tokens": 65535})
    assert int(reply.headers["x-effective-max-tokens"]) < 64


async def test_thoughts_are_a_block_of_their_own() -> None:
    answer = "The user greets me.</think>\n\nHello."
    message = await ask(engine_of(answer, max_model_len=4000), HELLO | THINK)
    thought, text = message["content"]
    assert (thought["type"], thought["thinking"].strip()) == ("thinking", "The user greets me.")
    assert thought["signature"]
    assert text["text"].strip() == "Hello."
    assert message["usage"]["output_tokens_details"]["thinking_tokens"] > 0


async def test_thoughts_and_calls_go_together() -> None:
    answer = f"I need the weather.</think>\n\n{CALL}"
    message = await ask(engine_of(answer, max_model_len=4000), TOOLS | THINK)
    assert [block["type"] for block in message["content"]] == ["thinking", "tool_use"]


async def test_thoughts_may_be_left_out() -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024, "display": "omitted"}
    answer = "The user greets me.</think>\n\nHello."
    message = await ask(engine_of(answer, max_model_len=4000), HELLO | THINK | {"thinking": thinking})
    assert [block["type"] for block in message["content"]] == ["text"]
    assert message["usage"]["output_tokens"] > len(TOKENIZER.encode("Hello.", add_special_tokens=False)) + 2


async def test_the_answer_goes_on_in_a_message_of_the_assistant() -> None:
    engine = engine_of(" Paris.")
    turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "In the city of"}]
    message = await ask(engine, HELLO | {"messages": turns})
    assert message["content"][0]["text"] == " Paris."
    assert TOKENIZER.decode(engine.requests[0].prompt_token_ids).endswith("In the city of")


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
async def test_a_forced_call_is_tool_use(choice: dict[str, Any]) -> None:
    def answer(request: Any) -> str:
        call = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
        return f"[{call}]" if choice["type"] == "any" else call

    engine = engine_of(answer)
    message = await ask(engine, TOOLS | {"tool_choice": choice})
    assert message["stop_reason"] == "tool_use"
    assert message["content"][0]["input"] == {"city": "Rome"}
    assert engine.requests[0].params.grammar is not None


async def test_a_forced_call_may_be_thought_about() -> None:
    call = '[{"name": "get_weather", "arguments": {"city": "Rome"}}]'
    engine = engine_of(f"They want the weather.</think>\n\n{call}", max_model_len=4000)
    message = await ask(engine, TOOLS | THINK | {"tool_choice": {"type": "any"}})
    assert [block["type"] for block in message["content"]] == ["thinking", "tool_use"]
    assert message["stop_reason"] == "tool_use"


async def test_sampling_is_passed_on() -> None:
    engine = engine_of(PARIS)
    asked = {"temperature": 0.3, "top_p": 0.8, "top_k": 7, "stop_sequences": ["x", "y"], "cache_salt": "me"}
    await post(engine, HELLO | asked)
    (request,) = engine.requests
    params = request.params
    assert (params.temperature, params.top_p, params.top_k, params.stop) == (0.3, 0.8, 7, ("x", "y"))
    assert (params.max_tokens, request.cache_salt) == (200, "me")


@pytest.mark.parametrize("place", ["output_config", "output_format"])
async def test_a_schema_constrains_the_text(place: str) -> None:
    engine = engine_of('{"a":1}')
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "schema": schema}
    message = await ask(engine, HELLO | {place: form if place == "output_format" else {"format": form}})
    assert message["content"] == [{"type": "text", "text": '{"a":1}'}]
    as_chat = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    await post(engine, {"messages": HELLO["messages"], "response_format": as_chat}, path="/v1/chat/completions")
    of_message, of_chat = (engine.requests[at].params.grammar for at in (0, -1))
    assert of_message is not None
    assert of_chat is not None
    assert of_message.rules == of_chat.rules


async def test_a_broken_answer_ends_with_an_error_event() -> None:
    reply = await post(engine_of(PARIS, dies_after=3), HELLO | {"stream": True})
    *_, last = events_of(reply.text)
    assert reply.status_code == 200
    assert last["type"] == "error"
    assert (last["error"]["type"], last["error"]["code"]) == ("overloaded_error", "engine_dead")
    assert last["request_id"] == reply.headers["request-id"]


# ---- blocks --------------------------------------------------------------------------------------
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.sampled_from(["", " ", "\n", "a", " b ", "🙂"])),
        st.tuples(st.just("thinking"), st.sampled_from(["", "hm", " so"])),
        st.tuples(st.just("call"), st.sampled_from(["{}", '{"a": [1, "b"]}'])),
    ),
    max_size=8,
)


def chat_events(steps: list[tuple[str, str]]) -> list[ChatEvent]:
    found: list[ChatEvent] = []
    num_calls = 0
    for kind, text in steps:
        if kind == "text":
            found.append(ContentDelta(index=0, text=text, token_ids=(1,)))
        elif kind == "thinking":
            found.append(ReasoningDelta(index=0, text=text))
        else:
            found.append(ToolCallStart(index=0, call_index=num_calls, call_id=f"c{num_calls}", name="f"))
            found.append(ToolCallArguments(index=0, call_index=num_calls, text=text))
            num_calls += 1
    return [*found, ChatFinished(index=0, reason=FinishReason.STOP)]


def cut(events: list[ChatEvent], draw: Any) -> list[ChatEvent]:
    """The same texts in smaller pieces."""
    found: list[ChatEvent] = []
    for event in events:
        if isinstance(event, ContentDelta | ReasoningDelta | ToolCallArguments) and len(event.text) > 1:
            at = draw(st.integers(0, len(event.text)))
            found += [replace(event, text=event.text[:at]), replace(event, text=event.text[at:])]
        else:
            found.append(event)
    return found


def blocks_of(events: list[ChatEvent]) -> list[tuple[str, str]]:
    """Kind and text of each block; every block is closed before the next begins."""
    blocks: list[tuple[str, str]] = []
    is_open = False
    maker = Blocks()
    for event in events:
        for part in maker.feed(event):
            if isinstance(part, Opened):
                assert not is_open
                is_open = True
                blocks.append((part.kind, ""))
            elif isinstance(part, Grown):
                assert is_open
                blocks[-1] = (blocks[-1][0], blocks[-1][1] + part.text)
            else:
                assert isinstance(part, Closed)
                assert is_open
                is_open = False
    assert not is_open
    return blocks


@given(STEPS, st.data())
@settings(deadline=None)
def test_blocks_do_not_depend_on_how_texts_are_cut(steps: list[tuple[str, str]], data: st.DataObject) -> None:
    events = chat_events(steps)
    whole = blocks_of(events)
    assert blocks_of(cut(cut(events, data.draw), data.draw)) == whole
    assert whole
    said = "".join(text for kind, text in steps if kind == "text")
    shown = "".join(text for kind, text in whole if kind == "text")
    assert "".join(shown.split()) == "".join(said.split())  # white space at the edge of a block is not shown
    assert [text for kind, text in whole if kind == "tool_use"] == [text for kind, text in steps if kind == "call"]
    thought = "".join(text for kind, text in steps if kind == "thinking")
    assert "".join(text for kind, text in whole if kind == "thinking") == thought


# ---- the rules of streams ------------------------------------------------------------------------
async def good_stream() -> str:
    reply = await post(FakeEngine(lambda request: f"See: {CALL}", max_model_len=800), TOOLS | {"stream": True})
    return reply.text


SPOILED = {
    "a start is missing": (lambda s: s[s.index("event: content_block_start") :], "order"),
    "the end is missing": (lambda s: s[: s.index("event: message_stop")], "order"),
    "a block is not closed": (lambda s: s.replace(frame(s, "content_block_stop"), "", 1), "blocks"),
    "a block begins twice": (
        lambda s: s.replace(frame(s, "content_block_start"), frame(s, "content_block_start") * 2, 1),
        "blocks",
    ),
    "a wrong name": (lambda s: s.replace("event: message_delta", "event: message", 1), "framing"),
    "no name": (lambda s: s.replace("event: message_delta\n", "", 1), "framing"),
    "a wrong delta": (lambda s: s.replace('"text_delta","text"', '"thinking_delta","thinking"', 1), "blocks"),
    "a wrong reason": (
        lambda s: s.replace('"tool_use","stop_sequence":null', '"stop_sequence","stop_sequence":null'),
        "end",
    ),
    "a broken input": (lambda s: s.replace('"partial_json":"{', '"partial_json":"', 1), "end"),
    "fewer tokens": (lambda s: s.replace('"output_tokens":1,', '"output_tokens":999,', 1), "usage"),
    "an unknown type": (lambda s: s.replace('"stop_reason":"tool_use"', '"stop_reason":"done"'), "schema"),
    "something behind the end": (lambda s: s + frame(s, "message_stop"), "order"),
}


def frame(stream: str, kind: str) -> str:
    begin = stream.index(f"event: {kind}\n")
    return stream[begin : stream.index("\n\n", begin) + 2]


@pytest.mark.parametrize("name", SPOILED)
async def test_the_linter_finds_what_is_illegal(name: str) -> None:
    spoil, rule = SPOILED[name]
    stream = await good_stream()
    assert lint_message(stream, PATH, TOOLS) == []
    assert spoil(stream) != stream
    assert any(finding.startswith(rule) for finding in lint_message(spoil(stream), PATH, TOOLS))
    assert folded(stream)["stop_reason"] == "tool_use"
