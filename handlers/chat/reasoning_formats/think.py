"""Reasoning before the answer, between two marks: `<think>…</think>`. Knows no tools."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from specserve.handlers.chat.answer_pieces import Content, Reasoning, ReasoningEnd
from specserve.handlers.chat.scanner import Scanner, Sink, Steps, WithoutLastNewline, tags_of

Opening = Literal["open", "closed", "none", "unknown"]
"""What the prompt did: opened the reasoning, closed it (empty, or as it was told), neither; or nobody looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkFormat:
    """The data of one format.

    starts         marks that begin reasoning, where the model writes one
    ends           marks that end it
    also_ends      marks of tool calls, which end it too and stay in the text
    always_thinks  an answer without a mark is reasoning, even where the prompt has not opened it
    bare           what an answer without a mark is when nobody looked at the prompt
    answer         marks around the answer, which are dropped
    trims          one line break at each inner side of the marks belongs to them
    keeps_marks    reasoning stays in the content, with the start mark that the prompt has taken from it
    """

    starts: tuple[str, ...] = ("<think>",)
    ends: tuple[str, ...] = ("</think>",)
    also_ends: tuple[str, ...] = ()
    always_thinks: bool = False
    bare: Literal["reasoning", "content"] = "reasoning"
    answer: tuple[str, str] | None = None
    trims: bool = False
    keeps_marks: bool = False

    def beginnings(self, opening: Opening) -> frozenset[str] | None:
        """Characters one of which is in every answer that is more than content; None if all of it may be a thought."""
        if opening == "closed":
            marks: tuple[str, ...] = ()
        elif opening == "none" and not self.always_thinks and not self.keeps_marks:
            marks = self.starts
        else:
            return None
        return frozenset(mark[0] for mark in (*marks, *(self.answer or ())[:1]) if mark)

    def opening_of(self, prompt: str, continued: str = "") -> Opening:
        """What the end of the prompt says. Earlier marks are other messages' affair.

        `continued` is the text of the message in which the answer goes on, if it does.
        """
        if continued:
            started = max((continued.rfind(mark) for mark in self.starts), default=-1)
            return "open" if started > max(continued.rfind(mark) for mark in self.ends) else "closed"
        end = prompt.rstrip()
        if end.endswith(stripped(self.starts)):
            return "open"
        return "closed" if end.endswith(stripped(self.ends)) else "none"


@cache
def stripped(marks: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(mark.rstrip() for mark in marks)


class ThinkParser(Scanner):
    def __init__(self, form: ThinkFormat, opening: Opening = "unknown") -> None:
        super().__init__()
        self._form = form
        self._opening = opening
        self.is_over = False
        """Whatever comes now is content."""

    def parse(self) -> Steps[None]:
        form = self._form
        if form.keeps_marks:
            if self._opening != "none" and self._opening != "closed":
                self._content(form.starts[0])
        elif self._opening != "closed":
            yield from self._reasoning()
        if form.answer and not form.keeps_marks:
            yield from self._answer(*form.answer)
        self.is_over = True
        yield from self.until(tags_of(), self._content)

    def _reasoning(self) -> Steps[None]:
        """Reads the reasoning, if there is any, up to the mark behind it."""
        form = self._form
        is_bare_reasoning = form.always_thinks or (self._opening == "unknown" and form.bare == "reasoning")
        if self._opening == "none" and not is_bare_reasoning:
            first = yield from self.peek(1)
            if first and not first.isspace() and not any(start.startswith(first) for start in form.starts):
                return  # no mark can begin here
        self.hold()
        yield from self.skip_space()
        started = yield from self.accept(*form.starts)
        held = self.drop()
        if not started:
            if self._opening != "open" and not is_bare_reasoning:
                self._content(held)
                return
            self._reason(held)
        if form.trims:
            yield from self.accept("\n")
        sink: Sink = WithoutLastNewline(self._reason) if form.trims else self._reason
        ended = yield from self.until(tags_of(*form.ends, *form.also_ends), sink)
        if ended:
            self.emit(ReasoningEnd())
        if ended in form.also_ends:
            self._content(ended)

    def _answer(self, start: str, end: str) -> Steps[None]:
        """The answer without the marks around it, if it has any."""
        self.hold()
        yield from self.skip_space()
        started = yield from self.accept(start)
        held = self.drop()
        if not started:
            self._content(held)
            return
        if self._form.trims:
            yield from self.accept("\n")
        yield from self.until(tags_of(end), WithoutLastNewline(self._content) if self._form.trims else self._content)

    def _reason(self, text: str) -> None:
        if text:
            self.emit(Reasoning(text))

    def _content(self, text: str) -> None:
        if text:
            self.emit(Content(text))
