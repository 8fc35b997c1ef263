"""Calls written as tags, one around each parameter, turned into JSON text while they arrive.

    <tool_call><function=f><parameter=a>1</parameter></function></tool_call>
    <tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>

A parameter that can only be a string is passed on as it comes; one of another or an unknown type when it is complete,
because what it is depends on all of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from specserve.handlers.chat.conversation import Tool
from specserve.handlers.chat.scanner import Sink, Steps, Tags, WithoutLastNewline, ignore
from specserve.handlers.chat.tool_formats.call_scanner import CallScanner
from specserve.handlers.chat.tool_formats.json_text import json_characters
from specserve.handlers.chat.tool_formats.parameter_types import ParameterTypes, json_of_text

ANY: frozenset[str] = frozenset()
TEXT = frozenset({"string"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterTagFormat:
    """The data of one format.

    sections         a mark that begins calls → the mark behind them
    call_prefix      may come before `call_start`, `call_suffix` after `call_end`
    call_start       then comes the name, then `name_end`; empty: the name comes at once
    attributes_end   what is between `name_end` and this mark is skipped
    call_end         empty: the mark behind the section ends the one call in it
    key_ends         what may follow a parameter's name → the types its value then has, None: by the schema
    value_start      comes between the end of the key and the value
    trims_newline    one line break at each end of a value belongs to the tags
    """

    sections: Mapping[str, str] = field(default_factory=dict)
    call_prefix: str = ""
    call_start: str
    name_end: str
    attributes_end: str = ""
    call_end: str
    call_suffix: str = ""
    parameter_start: str
    key_ends: Mapping[str, frozenset[str] | None]
    value_start: str = ""
    parameter_end: str
    trims_newline: bool = False
    forgets_ends: bool = False
    """Models leave out the end of a parameter; the next one or the end of the call then ends it."""


class ParameterTagParser(CallScanner):
    def __init__(self, form: ParameterTagFormat, tools: Sequence[Tool]) -> None:
        super().__init__()
        self._form = form
        self._types = ParameterTypes(tools)
        starts = {*form.sections, form.call_prefix or form.call_start}
        self._starts = Tags(starts)
        self._after_calls = {
            start: Tags({*starts, end}) if end else self._starts for start, end in {**form.sections, "": ""}.items()
        }
        ends = {form.parameter_end}
        if form.forgets_ends:
            ends |= {form.parameter_start, form.call_end}
        self._value_ends = Tags(ends)
        self._key_ends = Tags(form.key_ends)
        self._attributes_end = Tags((form.attributes_end,))

    def parse_answer(self) -> Steps[None]:
        form = self._form
        tags = self._starts
        while tag := (yield from self.until(tags, self.content)):
            if tag not in self._starts.tags:
                tags = self._starts  # the end of a section that had more in it than calls
                continue
            self.hold(tag)
            is_open = yield from self._section(tag)
            tags = self._after_calls[tag if is_open and tag in form.sections else ""]

    def _section(self, tag: str) -> Steps[bool]:
        """Calls up to the mark behind them. Whether there were calls, but not the mark."""
        form = self._form
        end = form.sections.get(tag, "")
        num_calls = 0
        has_begun = tag not in form.sections
        while True:
            yield from self.skip_space()
            if not has_begun and (form.call_prefix or form.call_start):
                has_begun = bool((yield from self.accept(form.call_prefix or form.call_start)))
                if not has_begun:
                    break
            if form.call_prefix:
                yield from self.skip_space()
                if not (yield from self.accept(form.call_start)):
                    break
            has_begun = False
            if not (yield from self._call(form.call_end or end)):
                break
            num_calls += 1
            self.hold()
            if form.call_suffix:
                yield from self.skip_space()
                if (yield from self.accept(form.call_suffix)):
                    self.drop()
                    self.hold()
            if not form.call_end:
                self.drop()
                return False
        if num_calls and end and (yield from self.accept(end)):
            self.drop()
            return False
        self.give_back()
        return bool(num_calls and end)

    def _call(self, end: str) -> Steps[bool]:
        """A call from its name on. False, with the text still held, if it has no parameters and no end."""
        form = self._form
        yield from self.skip_space()
        name = yield from self.read_name()
        if not name or (form.name_end and not (yield from self.accept(form.name_end))):
            return False
        if form.attributes_end and not (yield from self.until(self._attributes_end, ignore)):
            return False
        yield from self.skip_space()
        mark = yield from self.accept(form.parameter_start, end)
        if not mark:
            return False
        self.start_call(name)
        num_parameters = 0
        while mark == form.parameter_start:
            self.arguments(", " if num_parameters else "{")
            num_parameters += 1
            after = yield from self._parameter(name)
            if after is None:
                return True
            mark = after
            if mark == form.parameter_end:
                self.hold()
                yield from self.skip_space()
                mark = yield from self.accept(form.parameter_start, end)
                if mark:
                    self.drop()
        if mark or not self.is_cut:
            self.arguments("}" if num_parameters else "{}")
            self.end_call()
        self.give_back()
        return True

    def _parameter(self, function: str) -> Steps[str | None]:
        """A key and its value. The mark behind the value, empty if the answer ended without; None if it was cut."""
        form = self._form
        key: list[str] = []
        key_end = yield from self.until(self._key_ends, key.append)
        types = form.key_ends.get(key_end)
        parameter = "".join(key).strip()
        if not key_end and self.is_cut:
            self.arguments(json.dumps(parameter, ensure_ascii=False)[:-1])
            return None
        if types is None:
            types = self._types.of(function, parameter)
        self.arguments(f"{json.dumps(parameter, ensure_ascii=False)}: ")
        if form.value_start:
            yield from self.skip_space()
            yield from self.accept(form.value_start)
        if form.trims_newline:
            yield from self.accept("\n")
        if types == TEXT:
            self.arguments('"')
            mark = yield from self._value(lambda text: self.arguments(json_characters(text)))
            if not mark and self.is_cut:
                return None
            self.arguments('"')
            return mark
        value: list[str] = []
        mark = yield from self._value(value.append)
        self.arguments(json_of_text("".join(value), types))
        return mark if mark or not self.is_cut else None

    def _value(self, sink: Sink) -> Steps[str]:
        """Pours the value into `sink`; the mark behind it. A line break before the mark is not part of the value."""
        return (yield from self.until(self._value_ends, WithoutLastNewline(sink) if self._form.trims_newline else sink))
