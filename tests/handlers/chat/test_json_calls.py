"""Constrained text read as tool calls: what json.loads finds in the whole text, however the text is cut."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specserve.engine.api import FinishReason
from specserve.handlers.chat.events import ChatEvent, ChatFinished, ContentDelta
from specserve.handlers.chat.fold import ChoiceResult, fold
from specserve.handlers.chat.json_calls import CallReader, NewId, read_calls

TEXT = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(['"', "\\", '}]{["', "\\u0041", "🙂"])
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(TEXT, VALUE, max_size=3)
CALL = st.builds(lambda name, arguments: {"name": name, "parameters": arguments}, TEXT, ARGUMENTS)
CALLS = st.lists(CALL, min_size=1, max_size=4)
LAYOUT = st.sampled_from([{}, {"indent": 2}, {"separators": (",", ":")}, {"indent": 1, "ensure_ascii": False}])
CUTS = st.lists(st.integers(0, 200), max_size=12)


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    return [text[start:end] for start, end in itertools.pairwise(places)]


def array(index: int, new_id: NewId) -> CallReader:
    return CallReader(index, new_id, "parameters", is_array=True)


def single(index: int, new_id: NewId) -> CallReader:
    return CallReader(index, new_id, "parameters", is_array=False)


async def folded(reader_of: Any, pieces: list[str], reason: FinishReason = FinishReason.STOP) -> ChoiceResult:
    async def events() -> AsyncGenerator[ChatEvent, None]:
        for number, piece in enumerate(pieces):
            yield ContentDelta(index=0, text=piece, token_ids=(number,), num_prompt_tokens=7)
        yield ChatFinished(index=0, reason=reason)

    numbers = itertools.count()

    def new_id() -> str:
        return f"call_{next(numbers)}"

    return (await fold(read_calls(events(), lambda index: reader_of(index, new_id)), 1))[0]


def told(result: ChoiceResult) -> tuple[Any, ...]:
    calls = [(call.call_id, call.name, call.arguments) for call in result.calls]
    return result.text, calls, result.reason, result.calls_complete


@given(calls=CALLS, layout=LAYOUT, cuts=CUTS)
async def test_an_array_of_calls_is_read_as_json_reads_it(
    calls: list[dict[str, Any]], layout: dict[str, Any], cuts: list[int]
) -> None:
    text = json.dumps(calls, **layout)
    result = await folded(array, pieces_of(text, cuts))
    found = [{"name": call.name, "parameters": json.loads(call.arguments)} for call in result.calls]
    assert found == calls
    assert [call.call_id for call in result.calls] == [f"call_{number}" for number in range(len(calls))]
    assert (result.text, result.calls_complete) == ("", True)


@given(call=CALL, layout=LAYOUT, cuts=CUTS, blank=st.sampled_from(["", " ", "\n\t"]))
async def test_a_call_by_itself_is_read_as_json_reads_it(
    call: dict[str, Any], layout: dict[str, Any], cuts: list[int], blank: str
) -> None:
    result = await folded(single, pieces_of(blank + json.dumps(call, **layout) + blank, cuts))
    assert (result.calls[0].name, json.loads(result.calls[0].arguments)) == (call["name"], call["parameters"])
    assert (len(result.calls), result.text.strip(), result.calls_complete) == (1, "", True)


@given(
    text=st.builds(lambda call, end, more: json.dumps(call)[:end] + more, CALLS | CALL, st.integers(0, 80), TEXT)
    | TEXT,
    cuts=CUTS,
    one_by_one=st.booleans(),
    reader=st.sampled_from([array, single]),
)
async def test_any_text_is_read_the_same_however_it_is_cut(
    text: str, cuts: list[int], one_by_one: bool, reader: Any
) -> None:
    whole = await folded(reader, [text])
    cut = await folded(reader, list(text) if one_by_one else pieces_of(text, cuts))
    assert told(cut) == told(whole)


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("I would rather not.", "I would rather not.", []),
        ('{"name": "f", "parameters": {}}', '{"name": "f", "parameters": {}}', []),
        ('[{"parameters": {}, "name": "f"}]', '[{"parameters": {}, "name": "f"}]', []),
        ('[{"name": "f", "parameters": {"a": "x', "", [("f", '{"a": "x')]),
        ('[{"name": "f", "parameters": {}}, {"na', '{"na', [("f", "{}")]),
        ('[{"name": "f", "para', "", [("f", "")]),
        ('[{"name": "f", "wrong', '"wrong', [("f", "")]),
        ('[{"name": "f", "parameters": {}}] and more', "and more", [("f", "{}")]),
        ('[{"na', '[{"na', []),
        ("", "", []),
    ],
    ids=[
        "prose", "no array", "name last", "cut in arguments", "cut in second", "cut behind name", "no arguments",
        "text behind", "cut in first", "nothing"
    ],
)  # fmt: skip
async def test_what_is_no_whole_call_is_content_and_nothing_is_lost(
    text: str, content: str, calls: list[tuple[str, str]]
) -> None:
    result = await folded(array, [text])
    assert result.text == content
    assert [(call.name, call.arguments) for call in result.calls] == calls
    assert not result.calls_complete


async def test_counts_stay_with_the_tokens() -> None:
    result = await folded(array, list('[{"name": "f", "parameters": {}}'))
    assert (len(result.token_ids), result.num_prompt_tokens) == (32, 7)


async def test_a_blank_answer_is_no_call() -> None:
    assert told(await folded(single, [" ", "\n"])) == ("", [], FinishReason.STOP, False)


async def test_what_follows_a_call_by_itself_is_content() -> None:
    result = await folded(single, ['{"name": "f", "parameters": {}}', ", more"])
    assert (result.text, len(result.calls), result.calls_complete) == (", more", 1, False)


def test_a_name_is_told_before_its_arguments_and_arguments_as_they_come() -> None:
    reader = array(3, lambda: "call_0")
    seen = [
        (piece, [type(event).__name__ for event in reader.feed(piece)[1]])
        for piece in ('[{"name": "get', '_weather"', ', "parameters": {"ci', 'ty": ', '"Oslo"}', "}]")
    ]
    assert [kinds for _, kinds in seen] == [
        [], ["ToolCallStart"], ["ToolCallArguments"], ["ToolCallArguments"], ["ToolCallArguments"], []
    ]  # fmt: skip
