"""The text of a custom tool, out of the JSON object that a model writes around it: `{"input": "…"}`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from specserve.handlers.openai.responses.conversation import INPUT

OPENING = re.compile(r'\s*\{\s*"' + INPUT + r'"\s*:\s*"')
PIECE = re.compile(r'(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])+', re.DOTALL)
LONE_HIGH = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|[^u])", re.DOTALL)
ESCAPED = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
HALF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")


@dataclass(slots=True)
class TextArgument:
    """Fed with the JSON in any pieces, it gives the text as far as it is certain. What is no such object is the text
    itself, told at the end: nothing is lost."""

    is_complete: bool = False
    _raw: str = ""
    _told: int = 0
    """How much of `_raw` is told of; 0 before the opening is complete."""

    def feed(self, text: str) -> str:
        self._raw += text
        if self.is_complete:
            return ""
        if not self._told:
            opening = OPENING.match(self._raw)
            if opening is None:
                return ""
            self._told = opening.end()
        piece = PIECE.match(self._raw, self._told)
        end = self._told if piece is None else piece.end()
        if self._raw[end : end + 1] == '"':
            self.is_complete = True
        elif LONE_HIGH.search(self._raw, self._told, end):  # its other half is on the way
            end -= 6
        found = decoded(self._raw[self._told : end])
        self._told = end
        return found

    def end(self) -> str:
        """What is left when no more comes. A piece of an escape that was cut off is left out."""
        if self._told:
            rest = "" if self.is_complete else HALF_ESCAPE.sub("", self._raw[self._told :])
            return decoded(rest)
        if self.is_complete:
            return ""
        try:
            read = json.loads(self._raw)
        except (ValueError, RecursionError):
            return self._raw
        self.is_complete = True
        inner = read.get(INPUT) if isinstance(read, dict) else None
        return inner if isinstance(inner, str) else self._raw


def decoded(inside: str) -> str:
    """The text that the inside of a JSON string stands for. Escapes that JSON does not know stay as they are."""
    if "\\" not in inside:
        return inside
    return ESCAPE.sub(unescaped, inside).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def unescaped(escape: re.Match[str]) -> str:
    return chr(int(escape[0][2:], 16)) if escape[0][1] == "u" else ESCAPED.get(escape[0][1], escape[0])
