"""What a tool format is: a parser of its calls, and how grammars write them. Built from the data of a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from specserve.handlers.chat.answer_pieces import AnswerParser, AnswerParserFactory
from specserve.handlers.chat.call_grammars.json_calls import json_calls
from specserve.handlers.chat.call_grammars.parameter_calls import gemma_calls, python_calls, tag_calls
from specserve.handlers.chat.call_grammars.parameters import (
    Parameter,
    json_parameters,
    plain_parameters,
    scalar_parameters,
)
from specserve.handlers.chat.call_grammars.pieces import CallGrammarFactory
from specserve.handlers.chat.conversation import Tool
from specserve.handlers.chat.tool_formats.gemma_calls import GemmaCallFormat, GemmaCallParser
from specserve.handlers.chat.tool_formats.json_calls import JsonCallFormat, JsonCallParser
from specserve.handlers.chat.tool_formats.parameter_tags import ParameterTagFormat, ParameterTagParser
from specserve.handlers.chat.tool_formats.python_calls import PythonCallFormat, PythonCallParser

ParameterReader = Callable[[Mapping[str, Any]], Sequence[Parameter]]
"""The parameters of a schema one by one. Raises NotWritable for a schema that a format cannot keep to."""


@dataclass(frozen=True, slots=True)
class CallForm:
    """How calls are written. `parameters` is None where arguments are JSON, so that any schema can be kept to."""

    grammar: CallGrammarFactory
    parameters: ParameterReader | None = None


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """`parser` makes the parser for one answer. `families` and `example` are for people.

    `calls` is None where only the parser knows how calls are written: then no grammar can hold them to anything.
    `beginnings` are characters one of which is in every answer with calls, None where that is not known.
    """

    name: str
    families: str
    example: str
    parser: AnswerParserFactory
    calls: CallForm | None = None
    beginnings: frozenset[str] | None = None


def json_format(name: str, families: str, example: str, form: JsonCallFormat) -> ToolFormat:
    def parser(tools: Sequence[Tool]) -> AnswerParser:
        return JsonCallParser(form)

    beginnings = frozenset(mark[0] for mark in (*form.starts.tags, form.bare) if mark)
    return ToolFormat(name, families, example, parser, CallForm(partial(json_calls, form)), beginnings)


def tag_format(name: str, families: str, example: str, form: ParameterTagFormat) -> ToolFormat:
    calls = CallForm(partial(tag_calls, form), plain_parameters)
    return ToolFormat(name, families, example, partial(ParameterTagParser, form), calls)


def python_format(name: str, families: str, example: str, form: PythonCallFormat) -> ToolFormat:
    def parser(tools: Sequence[Tool]) -> AnswerParser:
        return PythonCallParser(form)

    return ToolFormat(name, families, example, parser, CallForm(partial(python_calls, form), json_parameters))


def gemma_format(name: str, families: str, example: str, form: GemmaCallFormat) -> ToolFormat:
    def parser(tools: Sequence[Tool]) -> AnswerParser:
        return GemmaCallParser(form)

    return ToolFormat(name, families, example, parser, CallForm(partial(gemma_calls, form), scalar_parameters))
