"""Parsers run over a text that is cut in given places."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from specserve.handlers.chat.answer_pieces import (
    AnswerParser,
    CallArguments,
    CallEnd,
    CallStart,
    FoldedAnswer,
    Piece,
    fold_pieces,
)
from specserve.handlers.chat.tool_formats.registry import TOOL_FORMATS

TYPES = {
    "city": {"type": "string"},
    "text": {"type": "string"},
    "days": {"type": "integer"},
    "ratio": {"type": "number"},
    "wet": {"type": "boolean"},
    "nothing": {"type": "null"},
    "list": {"type": "array"},
    "nested": {"type": "object"},
}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": TYPES}}}
    for name in ("f", "g", "get_weather")
]


def tool_parser(writer: str) -> AnswerParser:
    """The parser of a format; a writer's variant is named in brackets."""
    return TOOL_FORMATS[writer.partition(" ")[0]].parser(TOOLS)


def pieces_of(parser: AnswerParser, texts: Iterable[str], *, is_cut: bool = False) -> list[Piece]:
    pieces = [piece for text in texts for piece in parser.feed(text)]
    return [*pieces, *parser.finish(is_cut=is_cut)]


def whole(make: Callable[[], AnswerParser], text: str, *, is_cut: bool = False) -> FoldedAnswer:
    return fold_pieces(pieces_of(make(), [text], is_cut=is_cut))


def cut_at(text: str, places: Iterable[int]) -> list[str]:
    borders = [0, *sorted(places), len(text)]
    return [text[start:end] for start, end in pairwise(borders)]


def check_every_cut(make: Callable[[], AnswerParser], text: str, *, is_cut: bool = False, thrice: bool = False) -> None:
    """All ways of cutting the text in two, in single characters, and if asked in three, fold to the same."""
    expected = whole(make, text, is_cut=is_cut)
    cuts = [cut_at(text, [place]) for place in range(len(text) + 1)]
    cuts.append(list(text))
    if thrice:
        cuts += [cut_at(text, [first, second]) for second in range(len(text)) for first in range(1, second)]
    for texts in cuts:
        pieces = pieces_of(make(), texts, is_cut=is_cut)
        assert fold_pieces(pieces) == expected, texts
        check_order(pieces)


def check_order(pieces: list[Piece]) -> None:
    """No argument text before its call or after its end, and no content among it."""
    is_open = False
    for piece in pieces:
        if isinstance(piece, CallStart):
            is_open = True
        elif isinstance(piece, CallArguments | CallEnd):
            assert is_open, pieces
            is_open = isinstance(piece, CallArguments)
        else:
            is_open = False
