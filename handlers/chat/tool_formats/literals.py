"""Values that are not written as JSON, turned into JSON text while they arrive: Python's literals and Gemma's.

Nesting is kept in a list, not in the Python stack: models can write sixty thousand brackets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from specserve.handlers.chat.scanner import Scanner, Sink, Steps, Tags
from specserve.handlers.chat.tool_formats.json_text import hexadecimal, json_characters

JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
LOOSE_NUMBER = re.compile(r"[+-]?[0-9_]{0,40}\.?[0-9_]{0,40}(?:[eE][+-]?[0-9]{1,3})?")
CONSTANTS = {
    "True": "true",
    "False": "false",
    "None": "null",
    "true": "true",
    "false": "false",
    "null": "null",
}
WORD = re.compile(r"[\w.+-]*")
BARE_VALUE = re.compile(r"[^,\[\]{}<]*")
BARE_KEY = re.compile(r"[^:,\[\]{}<\"']*")
PYTHON_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "a": "\a",
    "0": "\0",
    "'": "'",
    '"': '"',
    "\\": "\\",
    "\n": "",
}
NUM_DIGITS = {"x": 2, "u": 4, "U": 8}


@dataclass(frozen=True, slots=True)
class Dialect:
    """quotes: what opens a string → what closes it. Only Python has escapes, only Gemma bare keys and bare strings."""

    kind: Literal["python", "gemma"]
    quotes: tuple[str, ...]

    @property
    def is_python(self) -> bool:
        return self.kind == "python"


PYTHON = Dialect("python", ("'", '"'))


def copy_literal(scanner: Scanner, dialect: Dialect, sink: Sink) -> Steps[bool]:
    """Pours the value that comes next into `sink`, as JSON. False when the text is no such value, or ends within.

    A word that means nothing is then still held by the scanner.
    """
    closers: list[str] = []
    while True:
        yield from scanner.skip_space()
        bracket = yield from scanner.accept("[", "{")
        if bracket:
            sink(bracket)
            closers.append("]" if bracket == "[" else "}")
            yield from scanner.skip_space()
            if not (yield from scanner.accept(closers[-1])):
                if bracket == "{" and not (yield from copy_key(scanner, dialect, sink)):
                    return False
                continue
            sink(closers.pop())
        elif not (yield from copy_flat(scanner, dialect, sink)):
            return False
        while closers:
            yield from scanner.skip_space()
            found = yield from scanner.accept(",", closers[-1])
            if not found:
                return False
            if found == ",":
                yield from scanner.skip_space()
                if not (yield from scanner.accept(closers[-1])):
                    break
            sink(closers.pop())
        if not closers:
            return True
        sink(", ")
        if closers[-1] == "}" and not (yield from copy_key(scanner, dialect, sink)):
            return False


def copy_key(scanner: Scanner, dialect: Dialect, sink: Sink) -> Steps[bool]:
    """A key and its colon."""
    yield from scanner.skip_space()
    quote = yield from scanner.accept(*dialect.quotes)
    if quote:
        if not (yield from copy_string(scanner, dialect, quote, sink)):
            return False
    elif dialect.is_python:
        return False
    else:
        scanner.hold()
        key = (yield from scanner.run_of(BARE_KEY)).strip()
        if not key or not (yield from scanner.accept(":")):
            return False
        scanner.drop()
        sink(f"{json.dumps(key, ensure_ascii=False)}: ")
        return True
    yield from scanner.skip_space()
    if not (yield from scanner.accept(":")):
        return False
    sink(": ")
    return True


def copy_flat(scanner: Scanner, dialect: Dialect, sink: Sink) -> Steps[bool]:
    """A string, number or constant."""
    quote = yield from scanner.accept(*dialect.quotes)
    if quote:
        return (yield from copy_string(scanner, dialect, quote, sink))
    if dialect.is_python:
        scanner.hold()
        text = json_scalar((yield from scanner.run_of(WORD)))
        if text is None:
            return False
        scanner.drop()
        sink(text)
        return True
    word = (yield from scanner.run_of(BARE_VALUE)).strip()
    sink(json_scalar(word) or json.dumps(word, ensure_ascii=False))
    return True


def json_scalar(word: str) -> str | None:
    """A number or constant as JSON."""
    if word in CONSTANTS:
        return CONSTANTS[word]
    if JSON_NUMBER.fullmatch(word):
        return word
    if not LOOSE_NUMBER.fullmatch(word):
        return None
    try:
        value = float(word) if "." in word or "e" in word.lower() else int(word)
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return None


def copy_string(scanner: Scanner, dialect: Dialect, quote: str, sink: Sink) -> Steps[bool]:
    """What comes up to the closing quote, as a JSON string."""
    sink('"')
    if not dialect.is_python:
        closed = yield from scanner.until(DELIMITERS[quote], lambda text: sink(json_characters(text)))
    else:
        while closed := (yield from scanner.until(DELIMITERS[quote], lambda text: sink(json_characters(text)))):
            if closed == quote:
                break
            yield from copy_escape(scanner, sink)
    if closed:
        sink('"')
    return bool(closed)


def copy_escape(scanner: Scanner, sink: Sink) -> Steps[None]:
    """What a backslash and the characters behind it mean; an escape that Python does not know stays as it is."""
    letter = yield from scanner.take(1)
    if letter in NUM_DIGITS:
        num_digits = NUM_DIGITS[letter]
        digits = yield from scanner.peek(num_digits)
        code = code_point(digits) if len(digits) == num_digits else None
        if code is not None:
            yield from scanner.take(num_digits)
            # Half of a pair becomes a whole character where the JSON is read, if the other half follows.
            sink(f"\\u{code:04x}" if 0xD800 <= code < 0xE000 else json_characters(chr(code)))
            return
    sink(json_characters(PYTHON_ESCAPES.get(letter, "\\" + letter)))


def code_point(digits: str) -> int | None:
    padded = digits.rjust(8, "0")
    high, low = hexadecimal(padded[:4]), hexadecimal(padded[4:])
    if high is None or low is None or high > 0x10:
        return None
    return (high << 16) + low


DELIMITERS: Mapping[str, Tags] = {
    "'": Tags(("'", "\\")),
    '"': Tags(('"', "\\")),
    "<escape>": Tags(("<escape>",)),
    '<|"|>': Tags(('<|"|>',)),
}
