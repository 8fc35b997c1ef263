"""Tool formats from a file of the server's owner: `--tool-parser-plugin FILE`.

A file says in one of two ways what it brings. As factories of `AnswerParser`s, which read incrementally:

    TOOL_FORMATS = {"shout": ShoutParser}          # called with the request's tools, for every answer

Or by the decorator that plugins of other servers use, whose classes read a whole answer at once:

    from specserve.handlers.chat.tool_formats.plugins import ExtractedToolCallInformation, ToolParser, ToolParserManager

    @ToolParserManager.register_module("shout")
    class ShoutParser(ToolParser):
        def extract_tool_calls(self, model_output, request):
            return ExtractedToolCallInformation(tools_called=…, tool_calls=[…], content=…)

Of such a class only `extract_tool_calls` is used, when the answer is complete, for streams too: so the stream is the
whole answer however it was cut.
"""

from __future__ import annotations

import inspect
import logging
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from specserve.handlers.chat.answer_pieces import (
    AnswerParser,
    AnswerParserFactory,
    CallArguments,
    CallEnd,
    CallStart,
    Content,
    Piece,
)
from specserve.handlers.chat.conversation import Tool
from specserve.handlers.chat.plugin_classes import ParserManager
from specserve.handlers.chat.tool_formats.tool_format import ToolFormat
from specserve.handlers.flags import UsageError

logger = logging.getLogger("specserve")
DECLARED = "TOOL_FORMATS"


@dataclass
class FunctionCall:
    """`arguments` is JSON text."""

    name: str
    arguments: str


@dataclass
class ToolCall:
    function: FunctionCall
    id: str | None = None
    type: str = "function"


@dataclass
class ExtractedToolCallInformation:
    """`content` is the text beside the calls."""

    tools_called: bool
    tool_calls: list[ToolCall] = field(default_factory=list)
    content: str | None = None


class ToolParser:
    """The base of plugin classes. The tokenizer is not handed to them: answers come as text."""

    def __init__(self, tokenizer: Any = None, tools: Any = None) -> None:
        self.model_tokenizer = tokenizer
        self.tools = tools
        self.prev_tool_call_arr: list[dict[str, Any]] = []
        self.current_tool_id = -1
        self.current_tool_name_sent = False
        self.streamed_args_for_tool: list[str] = []

    def extract_tool_calls(self, model_output: str, request: Any) -> ExtractedToolCallInformation:
        raise NotImplementedError


class ToolParserManager(ParserManager):
    attribute = "registered_tool_parser_names"


class WholeAnswerParser:
    """An `AnswerParser` over a plugin class that wants the whole answer."""

    def __init__(self, plugin: Any, request: SimpleNamespace) -> None:
        self._plugin, self._request = plugin, request
        self._texts: list[str] = []

    def feed(self, text: str) -> list[Piece]:
        self._texts.append(text)
        return []

    def finish(self, *, is_cut: bool) -> list[Piece]:
        text = "".join(self._texts)
        try:
            found = self._plugin.extract_tool_calls(text, self._request)
        except Exception:
            logger.exception("the tool parser plugin failed; its answer is content")
            return [Content(text)]
        if not found.tools_called:
            return [Content(text)]
        pieces: list[Piece] = [Content(found.content)] if found.content else []
        for call in found.tool_calls:
            pieces += [
                CallStart(call.function.name, getattr(call, "id", None)),
                CallArguments(call.function.arguments),
                CallEnd(),
            ]
        return pieces


def load_plugin(path: str) -> Mapping[str, ToolFormat]:
    """Runs the file. Raises UsageError when it cannot be run or brings nothing."""
    try:
        module = runpy.run_path(path, run_name="tool_parser_plugin")
    except Exception as error:
        raise UsageError(
            f"--tool-parser-plugin {path} cannot be loaded: {type(error).__name__}: {error}", "repair the file"
        ) from error
    found: dict[str, AnswerParserFactory] = dict(module.get(DECLARED, {}))
    for value in module.values():
        for name in ToolParserManager.names_of(value):
            found[name] = factory_of(value)
    if not found:
        raise UsageError(
            f"--tool-parser-plugin {path} brings no tool format",
            f"define {DECLARED} = {{name: factory}}, or decorate a class with @ToolParserManager.register_module(name)",
        )
    return {name: ToolFormat(name, f"from {path}", "", factory) for name, factory in found.items()}


def factory_of(plugin: type) -> AnswerParserFactory:
    takes_tools = "tools" in inspect.signature(plugin).parameters

    def make(tools: Sequence[Tool]) -> AnswerParser:
        instance = plugin(None, tools=tools) if takes_tools else plugin(None)
        return WholeAnswerParser(instance, SimpleNamespace(tools=list(tools), tool_choice="auto"))

    return make
