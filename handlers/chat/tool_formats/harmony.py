"""The message format of gpt-oss: reasoning, content and calls are messages of their own, told apart by headers.

    <|channel|>analysis<|message|>The user wants …<|end|>
    <|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>
    <|start|>assistant<|channel|>final<|message|>It is sunny.<|return|>

One parser reads all of it, so it serves both as tool format and as reasoning format. The prompt has opened the first
message; an answer that begins with no header is content.
"""

from __future__ import annotations

from specserve.handlers.chat.answer_pieces import Reasoning, ReasoningEnd
from specserve.handlers.chat.scanner import Steps, Tags
from specserve.handlers.chat.tool_formats.call_scanner import CallScanner

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>")
HEADER_ENDS = Tags((MESSAGE, *ENDS))
BETWEEN = Tags((START, CHANNEL, *ENDS))
ROLE = "assistant"


class HarmonyParser(CallScanner):
    """Without `takes_calls` the text of a call is content: nobody gave tools."""

    def __init__(self, *, takes_calls: bool) -> None:
        super().__init__()
        self._takes_calls = takes_calls

    def parse_answer(self) -> Steps[None]:
        # The role's name comes first where the prompt did not write it.
        self.hold()
        yield from self.skip_space()
        yield from self.accept(ROLE)
        tag = yield from self.accept(START, CHANNEL)
        if not tag:
            self.give_back()
        while True:
            if tag in (START, CHANNEL):
                tag = yield from self._message()
            else:
                tag = yield from self.until(BETWEEN, self.content)
                if not tag:
                    return
                if tag in (START, CHANNEL):
                    self.hold(tag)

    def _message(self) -> Steps[str]:
        """Header and text of one message; the mark behind them. A header without a text is content."""
        header: list[str] = []
        if (yield from self.until(HEADER_ENDS, header.append)) != MESSAGE:
            self.give_back()
            return ""
        self.drop()
        channel, recipient = read_header("".join(header))
        if recipient and self._takes_calls and channel != "final":
            self.start_call(recipient.removeprefix("functions."))
            tag = yield from self.until(BETWEEN, self.arguments)
            if tag or not self.is_cut:
                self.end_call()
        elif channel == "analysis":
            tag = yield from self.until(BETWEEN, lambda text: self.emit(Reasoning(text)))
            self.emit(ReasoningEnd())
        else:
            tag = yield from self.until(BETWEEN, self.content)
        if tag in (START, CHANNEL):  # the end of the message was left out
            self.hold(tag)
        return tag


def read_header(header: str) -> tuple[str, str]:
    """Channel and recipient, empty where they are not named. The role may come first: `assistant to=…<|channel|>…`."""
    before, _, after = header.rpartition(CHANNEL)
    words = after.split()
    channel = next((word.split("<|")[0] for word in words if not word.startswith("to=")), "")
    named = [word for word in (*before.split(), *words) if word.startswith("to=")]
    recipient = named[-1].removeprefix("to=").split("<|")[0] if named else ""
    return channel, recipient
