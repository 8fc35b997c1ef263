"""Reading JSON that arrives in pieces: values are passed on as they were written, never rebuilt."""

from __future__ import annotations

import json
import re

from specserve.handlers.chat.scanner import Scanner, Sink, Steps, pour

BRACKET_OR_QUOTE = re.compile(r'["{}\[\]]')
QUOTE_OR_ESCAPE = re.compile(r'["\\]')
PLAIN_TEXT = re.compile(r'[^"\\]*')
SCALAR = re.compile(r"[^\s,:{}\[\]\"]*")
ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
REPLACEMENT = "\ufffd"


def json_characters(text: str) -> str:
    """The text as it stands between the quotes of a JSON string. Characters, not words, decide: any cut will do."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def copy_value(scanner: Scanner, sink: Sink) -> Steps[bool]:
    """Pours the value that comes next into `sink` as it is written. False when it is missing or does not end.

    Brackets are counted, not matched by kind: a value that is not quite JSON ends where its brackets balance.
    """
    first = yield from scanner.peek(1)
    if first and first in '{["':
        return (yield from copy_bracketed(scanner, sink))
    scalar = yield from scanner.run_of(SCALAR)
    pour(scalar, sink)
    return bool(scalar)


def copy_bracketed(scanner: Scanner, sink: Sink) -> Steps[bool]:
    """An object, a list or a string."""
    depth = 0
    in_string = is_escaped = False
    while True:
        text, at = scanner.unread
        while at < len(text):
            if is_escaped:
                is_escaped = False
                at += 1
                continue
            found = (QUOTE_OR_ESCAPE if in_string else BRACKET_OR_QUOTE).search(text, at)
            if found is None:
                at = len(text)
                break
            at = found.end()
            mark = found.group()
            if in_string:
                is_escaped = mark == "\\"
                in_string = is_escaped
            elif mark == '"':
                in_string = True
            else:
                depth += 1 if mark in "{[" else -1
            if depth == 0 and not in_string:
                pour(scanner.consume(at), sink)
                return True
        pour(scanner.consume(at), sink)
        if not (yield from scanner.more()):
            return False


def read_string(scanner: Scanner) -> Steps[str | None]:
    """The text of the string that comes next. None when there is none, or when it is not JSON or not Unicode."""
    if (yield from scanner.peek(1)) != '"':
        return None
    parts: list[str] = []
    if not (yield from copy_bracketed(scanner, parts.append)):
        return None
    try:
        text: str = json.loads("".join(parts))
        text.encode()
    except ValueError:
        return None
    return text


def decode_string(scanner: Scanner, sink: Sink) -> Steps[bool]:
    """Pours what the string that comes next says into `sink`. False when it does not end."""
    yield from scanner.take(1)
    while True:
        yield from scanner.copy_run(PLAIN_TEXT, sink)
        mark = yield from scanner.take(1)
        if mark != "\\":
            return mark == '"'
        letter = yield from scanner.take(1)
        if letter == "u":
            sink((yield from decode_unicode(scanner)))
        elif letter:
            sink(ESCAPES.get(letter, "\\" + letter))


def decode_unicode(scanner: Scanner) -> Steps[str]:
    """The character of the digits that come next, after backslash and u; two such escapes may be one character."""
    high = hexadecimal((yield from scanner.peek(4)))
    if high is None:
        return "\\u"
    yield from scanner.take(4)
    if not 0xD800 <= high < 0xE000:
        return chr(high)
    if high >= 0xDC00 or (yield from scanner.peek(2)) != "\\u":
        return REPLACEMENT
    low = hexadecimal((yield from scanner.peek(6))[2:])
    if low is None or not 0xDC00 <= low < 0xE000:
        return REPLACEMENT
    yield from scanner.take(6)
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


def hexadecimal(digits: str) -> int | None:
    if len(digits) != 4 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
        return None
    return int(digits, 16)
