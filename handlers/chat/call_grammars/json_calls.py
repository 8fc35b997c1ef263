"""Calls whose arguments are JSON, by the data that their parser reads them with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from specserve.handlers.chat.call_grammars.pieces import (
    ANY_OBJECT,
    SPACE,
    CallGrammar,
    Format,
    WrittenTool,
    either,
    json_value,
    optional,
    pattern,
    repeat,
    sequence,
    text,
)
from specserve.handlers.chat.call_grammars.references import moved
from specserve.handlers.chat.tool_formats.json_calls import Header, JsonCallFormat

CALL_ID = "[A-Za-z0-9]{9}"


def json_calls(form: JsonCallFormat, tools: Sequence[WrittenTool], *, only_one: bool) -> CallGrammar:
    if form.header is not None and form.call_start:
        calls = repeated(sequence(text(form.call_start), headed(form.header, tools), text(form.call_end)), only_one)
    elif form.header is not None:
        calls = either(headed(form.header, tools), listed(form, tools, only_one))
    elif form.separators:
        calls = either(repeated(one(form, tools), only_one, "; ?"), listed(form, tools, only_one))
    else:
        calls = either(one(form, tools), listed(form, tools, only_one))
    starts = {
        start: [sequence(SPACE, calls, SPACE, text(end)) if end else sequence(SPACE, calls)]
        for start, end in form.sections.items()
    }
    bare = None
    if form.bare:
        bare = listed(form, tools, only_one) if form.bare == "[" else calls
    excludes = (form.call_start,) if form.call_start else ()
    return CallGrammar(starts=starts, excludes=excludes, bare=bare, bars=form.bare)


def one(form: JsonCallFormat, tools: Sequence[WrittenTool]) -> Format:
    """A call as an object. As one JSON schema, so that the same text may also begin another JSON answer."""
    if form.name_is_key:
        return either(*(json_value(object_of({tool.name: placed(tool, tool.name)})) for tool in tools))
    identity: dict[str, Any] = {}
    if "tool_name" in form.name_keys:
        identity = {"tool_call_id": {"type": "string", "pattern": "^[0-9]{1,4}$"}}
    return either(
        *(
            json_value(object_of(identity | {name: {"const": tool.name}, key: placed(tool, key)}, optional=identity))
            for tool in tools
            for name in form.name_keys
            for key in form.argument_keys
        )
    )


def object_of(properties: Mapping[str, Any], optional: Collection[str] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def placed(tool: WrittenTool, key: str) -> Any:
    """The schema of the arguments as that of a property."""
    return ANY_OBJECT if tool.schema is None else moved(tool.schema, f"#/properties/{key}")


def listed(form: JsonCallFormat, tools: Sequence[WrittenTool], only_one: bool) -> Format:
    return sequence(text("["), SPACE, repeated(one(form, tools), only_one, ",[ \\n]{0,8}"), SPACE, text("]"))


def headed(header: Header, tools: Sequence[WrittenTool]) -> Format:
    """The name, then the arguments."""
    between: list[Format] = []
    for mark in header.marks:
        if mark == header.id_mark:
            between.append(optional(sequence(text(mark), pattern(CALL_ID))))
        elif header.id_mark:
            between.append(optional(text(mark)))
        else:
            between += [SPACE, text(mark)] if header.fence else [text(mark)]
    fence = [SPACE, text(header.fence)] if header.fence else []
    found = []
    for tool in tools:
        name = [text(f"functions.{tool.name}:"), pattern("[0-9]{1,3}")] if header.name_is_id else [text(tool.name)]
        found.append(sequence(*name, *between, *([SPACE] if fence else []), tool.arguments, *fence))
    calls = either(*found)
    return sequence(text(header.prefix), calls) if header.prefix else calls


def repeated(call: Format, only_one: bool, separator: str = "\\s{0,2}") -> Format:
    return call if only_one else repeat(call, pattern(separator))
