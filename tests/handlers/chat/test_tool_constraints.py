"""The schema of forced calls takes exactly the calls whose arguments the tools take, by the word of jsonschema."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from specserve.generated.errors import InvalidConstraint
from specserve.handlers.chat.tool_constraints import CallableTool, ToolUse, arguments_schema, calls_schema, closed

PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TREE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["value"],
    "additionalProperties": False,
}
NAMED_TREE = {
    "type": "object",
    "properties": {"tree": {"$ref": "#/$defs/node"}, "again": {"$ref": "#/properties/tree"}},
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "maxProperties": 1}},
    "additionalProperties": False,
}
QUOTED = {"type": "object", "properties": {"reference": {"const": {"$ref": "#/$defs/node"}}}}


def tool(name: str, parameters: dict[str, Any] | None, strict: bool = False) -> CallableTool:
    return CallableTool(name=name, parameters=parameters, strict=strict, where=f"tools.{name}")


TOOLS = {
    "place": tool("place", PLACE),
    "tree": tool("tree", TREE),
    "named": tool("named", NAMED_TREE),
    "quoted": tool("quoted", QUOTED),
    "nothing": tool("nothing", None),
    "anything": tool("anything", {}),
}
ALL = ToolUse(mode="required", tools=list(TOOLS.values()))
ARGUMENTS: list[Any] = [
    {}, {"city": "Oslo"}, {"city": 1}, {"value": 1}, {"value": "1"}, {"value": 1, "children": [{"value": 2}]},
    {"value": 1, "children": [{"value": None}]}, {"tree": {"next": {"next": {}}}}, {"tree": {"next": 1}},
    {"again": {"next": {}}}, {"again": []}, {"reference": {"$ref": "#/$defs/node"}},
    {"reference": {"$ref": "#/$defs/tool_0/$defs/node"}}, [], "text", None,
]  # fmt: skip


@pytest.mark.parametrize("name", TOOLS)
def test_a_call_is_valid_when_its_arguments_are(name: str) -> None:
    whole = Draft202012Validator(calls_schema(ALL))
    own = Draft202012Validator(closed(arguments_schema(TOOLS[name])))
    answers = [own.is_valid(arguments) for arguments in ARGUMENTS]
    assert [whole.is_valid([{"name": name, "parameters": arguments}]) for arguments in ARGUMENTS] == answers
    assert True in answers
    assert False in answers


OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}}
OPEN: list[dict[str, Any]] = [
    {"type": "object"},
    {"type": "object", "properties": {}},
    OBJECT | {"additionalProperties": {"type": "integer"}},
    OBJECT | {"patternProperties": {"^x": {}}},
    OBJECT | {"allOf": [{"properties": {"b": {"type": "integer"}}}]},
    OBJECT | {"anyOf": [{"required": ["b"]}, {"required": ["a"]}]},
    OBJECT | {"$ref": "#/$defs/more", "$defs": {"more": {"properties": {"b": {}}}}},
]


@pytest.mark.parametrize("schema", OPEN, ids=str)
def test_objects_stay_open_where_closing_them_would_change_what_they_mean(schema: dict[str, Any]) -> None:
    assert closed(schema) == schema


def test_objects_that_name_their_properties_have_no_others_at_any_depth() -> None:
    schema = {"type": "object", "properties": {"list": {"type": "array", "items": OBJECT}, "one": {"anyOf": [OBJECT]}}}
    narrow, wide = Draft202012Validator(closed(schema)), Draft202012Validator(schema)
    for arguments in ({"b": 1}, {"list": [{"b": 1}]}, {"one": {"b": 1}}):
        assert wide.is_valid(arguments)
        assert not narrow.is_valid(arguments)
    assert narrow.is_valid({"list": [{"a": "x"}, {}], "one": {"a": "y"}})


def test_calls_have_a_known_name_and_nothing_else_and_there_is_at_least_one() -> None:
    call = {"name": "place", "parameters": {"city": "Oslo"}}
    schema = Draft202012Validator(calls_schema(ALL))
    assert schema.is_valid([call, call])
    for wrong in ([], call, [call | {"name": "other"}], [call | {"more": 1}], [{"name": "place"}], [call, {}]):
        assert not schema.is_valid(wrong)


def test_without_parallel_calls_there_is_exactly_one() -> None:
    call = {"name": "nothing", "parameters": {}}
    schema = Draft202012Validator(calls_schema(ToolUse(mode="required", tools=list(TOOLS.values()), parallel=False)))
    assert schema.is_valid([call])
    assert not schema.is_valid([call, call])
    assert not schema.is_valid([])


def test_the_name_is_written_before_the_arguments() -> None:
    named = calls_schema(ToolUse(mode="named", tools=[TOOLS["place"]], arguments_key="arguments"))
    assert list(named["properties"]) == ["name", "arguments"]
    assert list(calls_schema(ALL)["items"]["anyOf"][0]["properties"]) == ["name", "parameters"]


@pytest.mark.parametrize("name", TOOLS)
def test_a_named_tool_is_called_once(name: str) -> None:
    schema = Draft202012Validator(calls_schema(ToolUse(mode="named", tools=[TOOLS[name]])))
    own = Draft202012Validator(closed(arguments_schema(TOOLS[name])))
    for arguments in ARGUMENTS:
        assert schema.is_valid({"name": name, "parameters": arguments}) == own.is_valid(arguments)
    assert not schema.is_valid([{"name": name, "parameters": {}}])


@pytest.mark.parametrize("kind", ["string", ["object", "null"], 3])
def test_arguments_that_are_no_object_are_refused_by_their_place(kind: Any) -> None:
    with pytest.raises(InvalidConstraint) as refused:
        arguments_schema(tool("f", {"type": kind}))
    assert refused.value.param == "tools.f.parameters.type"


def test_only_required_and_named_tools_are_forced() -> None:
    assert [ToolUse(mode=mode).is_forced for mode in ("none", "auto", "required", "named")] == [
        False, False, True, True
    ]  # fmt: skip
