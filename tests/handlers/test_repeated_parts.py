"""Tools that come again are read as if they came for the first time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specserve.generated.errors import ApiError
from specserve.generated.schemas import ChatCompletionRequest
from specserve.handlers import wire
from specserve.handlers.openai.tools import read_tools
from specserve.handlers.repeated_parts import MAX_BYTES, MAX_BYTES_OF_ONE, RepeatedParts

VALUES = st.sampled_from([1, 1.0, True, 0, False, 0.0, -0.0, "1", None, [], {}, [1], [True], 10**20, 1e20])
PARAMETERS = st.dictionaries(st.sampled_from(["a", "b", "type"]), VALUES | st.dictionaries(st.just("minimum"), VALUES))


def body_with(tools: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hello"}], "tools": tools} | more


def tool(parameters: Any = None, **more: Any) -> dict[str, Any]:
    function = {"name": "f"} | ({} if parameters is None else {"parameters": parameters})
    return {"type": "function", "function": function | more}


def read(body: dict[str, Any]) -> tuple[str, list[str], list[Any]]:
    """What is told of a body, types of numbers included: JSON shows the difference of 1, 1.0 and true."""
    parsed, ignored = wire.parse_body(json.dumps(body).encode(), ChatCompletionRequest)
    return parsed.model_dump_json(exclude_unset=True), ignored, [json.dumps(each) for each in read_tools(parsed).shown]


@given(st.lists(PARAMETERS, min_size=1, max_size=6))
def test_tools_that_were_seen_are_read_like_new_ones(several: list[dict[str, Any]]) -> None:
    shared, wire.repeated = wire.repeated, RepeatedParts()
    try:
        for parameters in [*several, *several]:
            again = read(body_with([tool(parameters)]))
            kept, wire.repeated = wire.repeated, RepeatedParts()
            assert again == read(body_with([tool(parameters)]))
            wire.repeated = kept
    finally:
        wire.repeated = shared


def test_equal_tools_are_the_same_objects_and_lists_are_new() -> None:
    raw = json.dumps(body_with([tool({"type": "object"}, strict=True)])).encode()
    first, second = (wire.parse_body(raw, ChatCompletionRequest)[0] for _ in range(2))
    assert first.tools is not None
    assert second.tools is not None
    assert first.tools is not second.tools
    assert first.tools[0] is second.tools[0]
    assert read_tools(first).shown is not read_tools(second).shown


def test_unknown_keys_of_tools_are_named_every_time() -> None:
    for _ in range(3):
        assert read(body_with([tool(mood=1)], colour="red"))[1] == ["colour", "tools.0.function.mood"]


@pytest.mark.parametrize("wrong", [{"temperature": "hot"}, {"messages": []}, {"tool_choice": 5}, {"n": 1.5}])
def test_what_is_wrong_beside_known_tools_is_explained_as_ever(wrong: dict[str, Any]) -> None:
    told = []
    for number in range(2):
        tools = [tool({"type": "object"}, description=f"{number}")]
        if number:
            read(body_with(tools))
        with pytest.raises(ApiError) as refusal:
            read(body_with(tools, **wrong))
        told.append((type(refusal.value), refusal.value.message, refusal.value.param))
    assert told[0] == told[1]


def test_what_is_kept_has_a_limit() -> None:
    parts = RepeatedParts()

    def keep(tools: list[dict[str, Any]]) -> dict[str, Any]:
        sent = body_with(tools)
        part = parts.find(sent, ChatCompletionRequest)
        assert part is not None
        parts.keep(part, ChatCompletionRequest.model_validate(sent))
        return sent

    def is_kept(sent: dict[str, Any]) -> bool:
        part = parts.find(sent, ChatCompletionRequest)
        return part is not None and part.value is not None

    huge = keep([tool(description="x" * MAX_BYTES_OF_ONE)])
    assert not is_kept(huge)
    size = MAX_BYTES_OF_ONE - 1000
    sent = [keep([tool(description=f"{number}" + "x" * size)]) for number in range(2 * MAX_BYTES // size)]
    assert is_kept(sent[-1])
    assert not is_kept(sent[0])
    assert sum(map(is_kept, sent)) == MAX_BYTES // (size + 100)
