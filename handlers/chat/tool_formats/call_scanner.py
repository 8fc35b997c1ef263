"""What all tool formats do alike: content around calls, and what becomes of text that is no call after all."""

from __future__ import annotations

from specserve.handlers.chat.answer_pieces import CallArguments, CallEnd, CallStart, Content
from specserve.handlers.chat.scanner import Scanner, Steps, tags_of


class CallScanner(Scanner):
    """A parser of text with calls in it.

    White space that only stands between calls, before the first text or after the last, is not content; all other
    text that is no call is content as it was written. A call begins with `start_call`, after which it cannot be taken
    back: what then does not fit ends the call and is content.
    """

    def __init__(self) -> None:
        super().__init__()
        self._spaces: list[str] = []
        self._has_content = False
        self._has_calls = False

    def parse(self) -> Steps[None]:
        yield from self.parse_answer()
        yield from self.until(tags_of(), self.content)
        self.give_back()
        if not self._has_calls:
            self.emit_spaces()

    def parse_answer(self) -> Steps[None]:
        """Reads calls and content; what it leaves unread is content."""
        raise NotImplementedError

    def content(self, text: str) -> None:
        body = text.rstrip()
        if not body:
            self._spaces.append(text)
            return
        if self._has_calls and not self._has_content:
            self._spaces.clear()
            body, text = body.lstrip(), text.lstrip()
        self.emit_spaces()
        self.emit(Content(body))
        self._has_content = True
        self._spaces.append(text[len(body) :])

    def emit_spaces(self) -> None:
        spaces = "".join(self._spaces)
        self._spaces.clear()
        if spaces:
            self.emit(Content(spaces))

    def give_back(self) -> None:
        """What was held is content."""
        held = self.drop()
        if held:
            self.content(held)

    def start_call(self, name: str, call_id: str | None = None) -> None:
        self.drop()
        self._has_calls = True
        self.emit(CallStart(name, call_id))

    def arguments(self, text: str) -> None:
        self.emit(CallArguments(text))

    def end_call(self) -> None:
        self.emit(CallEnd())
