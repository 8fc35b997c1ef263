"""Calls as Gemma models write them: `<start_function_call>call:f{city:<escape>Rome<escape>}<end_function_call>`."""

from __future__ import annotations

from dataclasses import dataclass

from specserve.handlers.chat.scanner import Steps, Tags
from specserve.handlers.chat.tool_formats.call_scanner import CallScanner
from specserve.handlers.chat.tool_formats.literals import Dialect, copy_literal


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmaCallFormat:
    start: str
    end: str
    quote: str


class GemmaCallParser(CallScanner):
    def __init__(self, form: GemmaCallFormat) -> None:
        super().__init__()
        self._form = form
        self._dialect = Dialect("gemma", (form.quote,))

    def parse_answer(self) -> Steps[None]:
        form = self._form
        only_starts, also_end = Tags((form.start,)), Tags((form.start, form.end))
        tags = only_starts
        while tag := (yield from self.until(tags, self.content)):
            tags = only_starts
            if tag == form.start:
                self.hold(tag)
                tags = also_end if (yield from self._calls()) else only_starts

    def _calls(self) -> Steps[bool]:
        """Calls up to the end mark. Whether there were calls, but not the mark."""
        num_calls = 0
        while True:
            yield from self.skip_space()
            if not (yield from self.accept("call:")):
                break
            name = yield from self.read_name()
            if not name or (yield from self.peek(1)) != "{":
                break
            self.start_call(name)
            num_calls += 1
            if (yield from copy_literal(self, self._dialect, self.arguments)):
                self.end_call()
            else:
                self.give_back()
            self.hold()
        if num_calls and (yield from self.accept(self._form.end)):
            self.drop()
            return False
        self.give_back()
        return num_calls > 0
