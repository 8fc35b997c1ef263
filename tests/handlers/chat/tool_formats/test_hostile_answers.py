"""Answers made to hurt: the work must grow as the text does, and no bracket may reach Python's stack.

Nothing is timed. Function calls are counted, of C functions too; that none of them looks at much text at once follows
from what stays unread, which is less than a mark.
"""

from __future__ import annotations

import sys
from functools import partial
from types import FrameType
from typing import Any

import pytest
from taking_apart import tool_parser, whole
from writers import PARALLEL_START, WRITERS

from specserve.handlers.chat.answer_pieces import AnswerParser, fold_pieces
from specserve.handlers.chat.scanner import Scanner

NUM_CHARACTERS = 64_000
NAMES = sorted({writer.partition(" ")[0] for writer in WRITERS})
SHAPES = (
    *("hermes", "llama3_json", "granite", "mistral", "apertus", "deepseek_v3", "kimi_k2", "qwen3_coder", "glm45"),
    *("deepseek_v32", "step3", "pythonic", "olmo3", "functiongemma", "openai"),
)
"""Formats that take different ways through the engines; the others differ from these in their marks."""


def hostile(name: str, length: int) -> dict[str, str]:
    """Texts that begin like a call of this format and go on for ever."""
    example = WRITERS[name](PARALLEL_START)
    opened = example[: example.index("Rome")]
    mark = example[: example.index("f")]

    def repeated(text: str) -> str:
        return (text * (length // len(text) + 1))[:length]

    return {
        "marks": repeated(mark or "["),
        "broken marks": repeated(mark[:-1] or "[("),
        "calls": repeated(example),
        "torn calls": repeated(opened),
        "text": opened + repeated("word "),
        "brackets": example[: max(example.rindex("3"), 0)] + repeated("["),
        "braces": mark + repeated('{"a":'),
        "quotes": opened + repeated('"'),
        "backslashes": opened + repeated("\\"),
        "spaces": mark + repeated(" \n"),
        "digits": example[: example.rindex("3")] + repeated("9"),
        "before a name": mark + '{"x": "' + repeated(mark or "]"),
    }


KINDS = tuple(hostile("hermes", 10))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_sixty_four_thousand_characters_are_read_in_any_pieces(name: str, kind: str) -> None:
    text = hostile(name, NUM_CHARACTERS)[kind]
    expected = whole(partial(tool_parser, name), text)
    parser = tool_parser(name)
    assert isinstance(parser, Scanner)
    pieces = []
    for start in range(0, len(text), 997):
        pieces += parser.feed(text[start : start + 997])
        assert parser.num_unread < 60
    assert fold_pieces([*pieces, *parser.finish(is_cut=False)]) == expected


def num_calls(parser: AnswerParser, text: str) -> int:
    """Function calls made while the text is fed character by character."""
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        for character in text:
            parser.feed(character)
        parser.finish(is_cut=False)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SHAPES)
def test_the_work_is_in_proportion_to_the_text(name: str, kind: str) -> None:
    short = num_calls(tool_parser(name), hostile(name, 500)[kind])
    long = num_calls(tool_parser(name), hostile(name, 1000)[kind])
    assert long < 2.3 * short
