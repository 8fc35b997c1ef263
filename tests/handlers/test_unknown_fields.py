"""What a body has and no schema knows is named, wherever it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specserve.generated import document
from specserve.generated.operations import OPERATIONS, Operation
from specserve.generated.schemas import ChatCompletionRequest, CompletionRequest
from specserve.handlers.unknown_fields import header_of_names, unknown_fields
from specserve.handlers.wire import parse_body

DOCUMENT = json.loads(document())
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "anything": {"goes": 1}}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"x-mine": [{"deep": 1}]}}}
OWN_ANSWER = {
    "role": "assistant",
    "content": None,
    "refusal": None,
    "parsed": None,
    "annotations": [],
    "reasoning": "hm",
    "reasoning_content": "hm",
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
CHAT: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "text", "text": "you"}]},
        OWN_ANSWER,
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    ],
    "tools": [TOOL],
    "response_format": FORMAT,
    "stream": True,
    "stream_options": {"include_usage": True},
    "chat_template_kwargs": {"mood": {"what": "ever"}},
    "logit_bias": {"5": 1},
}
PLACES: list[tuple[str | int, ...]] = [
    (),
    ("messages", 0),
    ("messages", 1),
    ("messages", 0, "content", 1),
    ("messages", 1, "tool_calls", 0),
    ("messages", 1, "tool_calls", 0, "function"),
    ("tools", 0),
    ("tools", 0, "function"),
    ("response_format",),
    ("response_format", "json_schema"),
    ("stream_options",),
]


def ignored(body: dict[str, Any], schema: Any = ChatCompletionRequest) -> list[str]:
    return parse_body(json.dumps(body).encode(), schema)[1]


def test_an_answer_of_ours_and_every_free_object_have_nothing_unknown() -> None:
    assert ignored(CHAT) == []


@given(st.sets(st.sampled_from(PLACES)))
def test_an_unknown_key_is_found_wherever_it_is(places: set[tuple[str | int, ...]]) -> None:
    body = json.loads(json.dumps(CHAT))
    for place in places:
        inside = body
        for step in place:
            inside = inside[step]
        inside["mood"] = 1
    found = ignored(body)
    assert sorted(found) == sorted(".".join(map(str, (*place, "mood"))) for place in places)
    assert found == sorted(found, key=lambda path: path != "mood"), "the top level comes first"


@pytest.mark.parametrize("operation", [one for one in OPERATIONS.values() if one.body], ids=lambda one: one.id)
def test_the_examples_of_the_contract_have_nothing_unknown(operation: Operation) -> None:
    content = DOCUMENT["paths"][operation.path][operation.method.lower()]["requestBody"]["content"]["application/json"]
    for name, example in content["examples"].items():
        assert ignored(example["value"], operation.body) == [], name


def test_what_an_empty_field_says_is_not_lost() -> None:
    cited = OWN_ANSWER | {"annotations": [{"type": "url_citation"}]}
    assert ignored(CHAT | {"messages": [*CHAT["messages"], cited]}) == ["messages.3.annotations"]
    assert ignored(CHAT | {"annotations": []}) == ["annotations"]


def test_prompts_of_token_ids_have_no_keys() -> None:
    assert ignored({"prompt": [[1, 2], [3]], "n": 2.0}, CompletionRequest) == []


def test_a_header_names_each_key_once_and_only_harmless_ones() -> None:
    names = ["promt", "x y", "é", "messages.0.mood", "messages.11.mood", "tools.0.function.mood", "a\r\nb: c", "7.5"]
    assert header_of_names(names) == "promt,messages.mood,tools.function.mood,7.5"


def test_a_strict_server_names_unknown_keys_with_those_that_were_meant() -> None:
    refusal = unknown_fields(["promt", "zzz", "temprature"], CompletionRequest)
    assert refusal.param == "promt"
    assert "'promt' (did you mean prompt?), 'zzz', 'temprature' (did you mean temperature?)" in refusal.message
    inside = unknown_fields(["stream_options.usage"], CompletionRequest)
    assert inside.param == "stream_options.usage"
    assert "did you mean" not in inside.message
    many = unknown_fields([f"{number}{'x' * 300}" for number in range(30)], CompletionRequest)
    assert "and 22 more" in many.message
    assert len(many.message) < 1000


def test_unknown_keys_are_named_and_ignored() -> None:
    body, names = parse_body(b'{"prompt": "a", "promt": "b", "x y": 1, "n": 1}', CompletionRequest)
    assert body.prompt == "a"
    assert names == ["promt", "x y"]
    assert header_of_names(names) == "promt"


@pytest.mark.parametrize("operation", [one for one in OPERATIONS.values() if one.body], ids=lambda one: one.id)
def test_looking_for_unknown_keys_on_the_way_reads_the_same(operation: Operation) -> None:
    content = DOCUMENT["paths"][operation.path][operation.method.lower()]["requestBody"]["content"]["application/json"]
    assert operation.body is not None
    for name, example in content["examples"].items():
        read, _ = parse_body(json.dumps(example["value"]).encode(), operation.body)
        expected = operation.body.model_validate(example["value"])
        assert read == expected, name
        assert read.model_fields_set == expected.model_fields_set, name
