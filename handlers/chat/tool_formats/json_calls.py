"""Calls whose arguments the model writes as JSON: passed on as written, while they arrive.

<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>         an object between marks
[TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "g", …}]      a list
[TOOL_CALLS]f[ARGS]{"a": 1}                                         the name first, then only the arguments
{"name": "f", "parameters": {"a": 1}}; {"name": "g", …}             no marks at all
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from specserve.handlers.chat.scanner import Sink, Steps, Tags, ignore
from specserve.handlers.chat.tool_formats.call_scanner import CallScanner
from specserve.handlers.chat.tool_formats.json_text import copy_value, decode_string, read_string

EXPECTED_KEYS = frozenset({"type", "id", "name", "arguments", "parameters"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A name before the arguments: `prefix`, the name, and some of `marks` in their order, of which the id may be one.

    id_mark     what follows it is the id of the call
    name_is_id  the name is written as part of an id, `functions.NAME:0`
    """

    prefix: str = ""
    marks: tuple[str, ...] = ()
    id_mark: str = ""
    name_is_id: bool = False
    fence: str = ""
    """Closes a fenced block around the arguments."""


@dataclass(frozen=True, kw_only=True)
class JsonCallFormat:
    """The data of one format.

    sections      a mark that begins calls → the mark behind them, which may be missing; empty if there is none
    call_start    begins each call within a section, `call_end` ends it
    bare          calls may begin the whole answer without a mark, with this bracket
    separators    between calls in a row
    name_is_key   a call is `{"f": {…}}`
    """

    sections: Mapping[str, str] = field(default_factory=dict)
    call_start: str = ""
    call_end: str = ""
    bare: str = ""
    separators: tuple[str, ...] = ()
    header: Header | None = None
    name_keys: tuple[str, ...] = ("name",)
    argument_keys: tuple[str, ...] = ("arguments", "parameters")
    name_is_key: bool = False

    @cached_property
    def starts(self) -> Tags:
        """What begins calls."""
        return Tags({*self.sections, self.call_start})

    @cached_property
    def after_calls(self) -> Mapping[str, Tags]:
        """By the mark that began them: what is searched for behind calls, where the end of a section may still come."""
        starts = {*self.sections, self.call_start}
        return {
            start: Tags({*starts, end}) if end and not any(end in other for other in starts) else self.starts
            for start, end in {**self.sections, "": ""}.items()
        }


class JsonCallParser(CallScanner):
    def __init__(self, form: JsonCallFormat) -> None:
        super().__init__()
        self._form = form
        self._only_end = next(iter(form.sections.values()), "") if form.call_start else ""

    def parse_answer(self) -> Steps[None]:
        form = self._form
        tags = form.starts
        if form.bare:
            self.hold()
            yield from self.skip_space()
            if (yield from self.peek(1)) == form.bare:
                yield from self._section("", is_bare=True)
            else:
                self.give_back()
        while tag := (yield from self.until(tags, self.content)):
            if tag not in form.sections and tag != form.call_start:
                tags = form.starts  # the end of a section that had more in it than calls
                continue
            self.hold(tag)
            is_open = yield from self._section(tag)
            tags = form.after_calls[tag if is_open and tag in form.sections else ""]

    def _section(self, tag: str, *, is_bare: bool = False) -> Steps[bool]:
        """Calls up to the mark behind them. Whether there were calls, but not the mark."""
        form = self._form
        num_calls = 0
        has_begun = tag == form.call_start
        while True:
            yield from self.skip_space()
            if form.call_start and not has_begun and not (yield from self.accept(form.call_start)):
                break
            has_begun = False
            yield from self.skip_space()
            if not (yield from self._calls(is_bare)):
                break
            num_calls += 1
            self.hold()
            yield from self.skip_space()
            if form.call_end and (yield from self.accept(form.call_end)):
                self.drop()
                self.hold()
                yield from self.skip_space()
            if form.separators:
                yield from self.accept(*form.separators)
            elif not form.call_start:
                break
        end = form.sections.get(tag, self._only_end)
        if num_calls and end and (yield from self.accept(end)):
            self.drop()
            return False
        self.give_back()
        return bool(num_calls and end)

    def _calls(self, is_bare: bool) -> Steps[bool]:
        """One call or a list of them. False, with the text still held, if there is none."""
        first = yield from self.peek(1)
        if first == "[":
            return (yield from self._list(is_bare))
        if first == "{" and (self._form.header is None or not self._form.header.prefix):
            return (yield from self._object(is_bare))
        if self._form.header is None:
            return False
        return (yield from self._after_header(self._form.header))

    def _list(self, is_bare: bool) -> Steps[bool]:
        yield from self.accept("[")
        num_calls = 0
        while True:
            yield from self.skip_space()
            if not (yield from self._object(is_bare)):
                break
            num_calls += 1
            self.hold()
            yield from self.skip_space()
            if (yield from self.accept("]")):
                self.drop()
                return True
            if not (yield from self.accept(",")):
                break
        if num_calls:
            self.give_back()
        return num_calls > 0

    def _object(self, is_bare: bool) -> Steps[bool]:
        """A call as an object with its name and its arguments in any order. False if the text is not that."""
        form = self._form
        if not (yield from self.accept("{")):
            return False
        name: str | None = None
        early: list[str] | None = None  # arguments that came before the name
        has_started = False  # after which what is read is held: it is content if the object does not end
        while True:
            yield from self.skip_space()
            if (yield from self.accept("}")):
                if has_started:
                    self.drop()
                elif name is None or is_bare:
                    return False
                else:
                    self._whole_call(name, "{}")
                return True
            key = yield from read_string(self)
            yield from self.skip_space()
            if key is None or not (yield from self.accept(":")):
                break
            yield from self.skip_space()
            if form.name_is_key and not has_started:
                name, key = key, form.argument_keys[0]
            if key in form.name_keys and name is None:
                name = yield from read_string(self)
                if not name:
                    return False
            elif key in form.argument_keys and not has_started and early is None:
                if name is None:
                    early = []
                    if not (yield from self._copy_arguments(early.append)):
                        return False
                else:
                    self.start_call(name)
                    if not (yield from self._copy_arguments(self.arguments)):
                        return True
                    self.end_call()
                    has_started = True
                    self.hold()
            elif is_bare and not has_started and key not in EXPECTED_KEYS:
                return False
            elif not (yield from copy_value(self, ignore)):
                break
            if early is not None and name is not None and not has_started:
                self._whole_call(name, "".join(early))
                has_started = True
                self.hold()
            yield from self.skip_space()
            if not (yield from self.accept(",")) and (yield from self.peek(1)) != "}":
                break
        if has_started:
            self.give_back()
        return has_started

    def _whole_call(self, name: str, arguments: str, call_id: str | None = None) -> None:
        self.start_call(name, call_id)
        self.arguments(arguments)
        self.end_call()

    def _copy_arguments(self, sink: Sink) -> Steps[bool]:
        """The arguments as written. Those written as a string are what the string says; null and "" are none."""
        first = yield from self.peek(1)
        if first == '"':
            if (yield from self.accept('""')):
                sink("{}")
                return True
            return (yield from decode_string(self, sink))
        if first and first in "{[":
            return (yield from copy_value(self, sink))
        scalar: list[str] = []
        ended = yield from copy_value(self, scalar.append)
        text = "".join(scalar)
        sink("{}" if text == "null" else text)
        return ended

    def _after_header(self, header: Header) -> Steps[bool]:
        if header.prefix and not (yield from self.accept(header.prefix)):
            return False
        name = written = yield from self.read_name()
        call_id = None
        if not name:
            return False
        if header.name_is_id:
            call_id = written
            name = written.removeprefix("functions.")
            stem, colon, number = name.rpartition(":")
            name = stem if colon and number.isdigit() else name
        num_marks = 0
        for mark in header.marks:
            yield from self.skip_space()
            if (yield from self.accept(mark)):
                num_marks += 1
                if mark == header.id_mark:
                    call_id = (yield from self.read_name()) or None
        yield from self.skip_space()
        if not name or (header.marks and not header.id_mark and not num_marks):
            return False
        if (yield from self.peek(1)) == "{":
            self.start_call(name, call_id)
            if (yield from copy_value(self, self.arguments)):
                self.end_call()
                if header.fence:
                    self.hold()
                    yield from self.skip_space()
                    if (yield from self.accept(header.fence)):
                        self.drop()
                    else:
                        self.give_back()
            return True
        call_end = self._form.call_end
        if not call_end or not num_marks or not (yield from self.accept(call_end)):
            return False
        self._whole_call(name, "{}", call_id)
        return True
