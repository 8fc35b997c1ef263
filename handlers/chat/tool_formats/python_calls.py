"""Calls written as Python: `[f(city='Rome', days=3), g()]`, in brackets, between marks, or one a line between marks.

A call is one from its first keyword on, or from `()`: `[see](https://…)` and `[f(1)]` are text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from specserve.handlers.chat.scanner import Steps, Tags
from specserve.handlers.chat.tool_formats.call_scanner import CallScanner
from specserve.handlers.chat.tool_formats.literals import PYTHON, copy_literal

IDENTIFIER = re.compile(r"[\w.]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonCallFormat:
    """sections: a mark that begins calls → the mark behind them. bare: a list may be the whole beginning."""

    sections: Mapping[str, str] = field(default_factory=dict)
    bare: bool = False
    needs_brackets: bool = True


class PythonCallParser(CallScanner):
    def __init__(self, form: PythonCallFormat) -> None:
        super().__init__()
        self._form = form
        self._starts = Tags(form.sections)

    def parse_answer(self) -> Steps[None]:
        form = self._form
        tags = self._starts
        if form.bare:
            self.hold()
            yield from self.skip_space()
            yield from self._calls("")
        while tag := (yield from self.until(tags, self.content)):
            tags = self._starts
            if tag in form.sections:
                self.hold(tag)
                yield from self.skip_space()
                if (yield from self._calls(form.sections[tag])):
                    tags = Tags((*form.sections, form.sections[tag]))

    def _calls(self, end: str) -> Steps[bool]:
        """Calls up to the mark behind them. Whether there were calls, but not the mark."""
        in_brackets = bool((yield from self.accept("[")))
        num_calls = 0
        is_closed = False
        if in_brackets or not self._form.needs_brackets:
            while (yield from self._call()):
                num_calls += 1
                self.hold()
                yield from self.skip_space()
                yield from self.accept(",")
                yield from self.skip_space()
                if in_brackets and (yield from self.accept("]")):
                    is_closed = True
                    self.drop()
                    self.hold()
                    yield from self.skip_space()
                    break
        is_closed = is_closed or (num_calls > 0 and not in_brackets)
        if is_closed and end and (yield from self.accept(end)):
            self.drop()
            return False
        self.give_back()
        return bool(num_calls and end)

    def _call(self) -> Steps[bool]:
        """False if the text is no call. What does not fit after the first keyword leaves the call without an end."""
        yield from self.skip_space()
        name = yield from self.run_of(IDENTIFIER)
        if not all(part.isidentifier() for part in name.split(".")):
            return False
        yield from self.skip_space()
        if not (yield from self.accept("(")):
            return False
        yield from self.skip_space()
        if (yield from self.accept(")")):
            self.start_call(name)
            self.arguments("{}")
            self.end_call()
            return True
        keyword = yield from self._keyword()
        if not keyword:
            return False
        self.start_call(name)
        self.arguments("{")
        while keyword:
            self.arguments(f"{json.dumps(keyword, ensure_ascii=False)}: ")
            if not (yield from copy_literal(self, PYTHON, self.arguments)):
                self.give_back()
                return True
            yield from self.skip_space()
            keyword = ""
            if (yield from self.accept(",")):
                yield from self.skip_space()
                if (yield from self.peek(1)) != ")":
                    self.hold()
                    keyword = yield from self._keyword()
                    if not keyword:
                        self.give_back()
                        return True
                    self.drop()
                    self.arguments(", ")
        if (yield from self.accept(")")):
            self.arguments("}")
            self.end_call()
        return True

    def _keyword(self) -> Steps[str]:
        """`name=`, of which the name; empty if something else comes."""
        yield from self.skip_space()
        keyword = yield from self.run_of(IDENTIFIER)
        yield from self.skip_space()
        is_keyword = keyword.isidentifier() and (yield from self.accept("="))
        return keyword if is_keyword else ""
