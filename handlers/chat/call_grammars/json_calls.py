"""Calls whose arguments are JSON, by the data that their parser reads them with."""

from __future__ import annotations

import re
from collections.abc import Sequence

from specserve.handlers.chat.call_grammars.pieces import (
    SPACE,
    CallGrammar,
    Format,
    WrittenTool,
    either,
    optional,
    pattern,
    repeat,
    sequence,
    text,
)
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
    """A call as an object."""
    found = []
    for tool in tools:
        if form.name_is_key:
            opening = rf'\{{ ?"{re.escape(tool.name)}": ?'
        else:
            identity = '("tool_call_id": ?"[0-9]{1,4}", ?)?' if "tool_name" in form.name_keys else ""
            opening = (
                rf'\{{ ?{identity}"({"|".join(form.name_keys)})": ?"{re.escape(tool.name)}", ?'
                rf'"({"|".join(form.argument_keys)})": ?'
            )
        found.append(sequence(pattern(opening), tool.arguments, pattern(r" ?\}")))
    return either(*found)


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
