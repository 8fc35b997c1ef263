"""Reasoning formats from a file of the server's owner: `--reasoning-parser-plugin FILE`.

A file says in one of two ways what it brings. As data, which the built-in parser reads incrementally:

    REASONING_FORMATS = {"ponder": ThinkFormat(starts=("<ponder>",), ends=("</ponder>",))}

Or by the decorator that plugins of other servers use, whose classes read a whole answer at once:

    from specserve.handlers.chat.reasoning_formats.plugins import ReasoningParser, ReasoningParserManager

    @ReasoningParserManager.register_module("ponder")
    class PonderParser(ReasoningParser):
        def extract_reasoning(self, model_output, request):
            thought, _, answer = model_output.partition("</ponder>")
            return thought, answer

Of such a class only `extract_reasoning` is used (older: `extract_reasoning_content`), when the answer is complete, for
streams too: so the stream is the whole answer however it was cut.
"""

from __future__ import annotations

import logging
import runpy
from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

from specserve.handlers.chat.answer_pieces import Content, Piece, Reasoning, ReasoningEnd
from specserve.handlers.chat.plugin_classes import ParserManager
from specserve.handlers.chat.reasoning_formats.registry import ReasoningFormat
from specserve.handlers.chat.reasoning_formats.think import ThinkFormat
from specserve.handlers.flags import UsageError

logger = logging.getLogger("specserve")
DECLARED = "REASONING_FORMATS"
METHODS = ("extract_reasoning", "extract_reasoning_content")


class ReasoningParser:
    """The base of plugin classes. The tokenizer is not handed to them: answers come as text."""

    def __init__(self, tokenizer: Any = None, *args: Any, **kwargs: Any) -> None:
        self.model_tokenizer = tokenizer


class ReasoningParserManager(ParserManager):
    attribute = "registered_reasoning_parser_names"


class WholeAnswerReader:
    """A `ReasoningReader` over a plugin class that wants the whole answer."""

    is_over = False

    def __init__(self, plugin: type, method: str) -> None:
        self._plugin, self._method = plugin(None), method
        self._texts: list[str] = []

    def feed(self, text: str) -> list[Piece]:
        self._texts.append(text)
        return []

    def finish(self, *, is_cut: bool) -> list[Piece]:
        text = "".join(self._texts)
        try:
            thought, said = getattr(self._plugin, self._method)(text, SimpleNamespace())
        except Exception:
            logger.exception("the reasoning parser plugin failed; its answer is content")
            return [Content(text)]
        pieces: list[Piece] = [Reasoning(thought), ReasoningEnd()] if thought else []
        return [*pieces, Content(said)] if said else pieces


def load_reasoning_plugin(path: str) -> Mapping[str, ReasoningFormat]:
    """Runs the file. Raises UsageError when it cannot be run or brings nothing."""
    try:
        module = runpy.run_path(path, run_name="reasoning_parser_plugin")
    except Exception as error:
        raise UsageError(
            f"--reasoning-parser-plugin {path} cannot be loaded: {type(error).__name__}: {error}", "repair the file"
        ) from error
    origin = f"from {path}"
    found: dict[str, ReasoningFormat] = {}
    for name, form in dict(module.get(DECLARED, {})).items():
        if not isinstance(form, ThinkFormat):
            raise UsageError(f"--reasoning-parser-plugin {path}: {name} is no ThinkFormat", "repair the file")
        found[name] = ReasoningFormat(name, origin, "", form)
    for value in module.values():
        for name in ReasoningParserManager.names_of(value):
            method = next((each for each in METHODS if callable(getattr(value, each, None))), None)
            if method is None:
                raise UsageError(
                    f"--reasoning-parser-plugin {path}: {name} has no method {METHODS[0]}", "repair the file"
                )
            found[name] = ReasoningFormat(name, origin, "", None, partial(WholeAnswerReader, value, method))
    if not found:
        raise UsageError(
            f"--reasoning-parser-plugin {path} brings no reasoning format",
            f"define {DECLARED} = {{name: ThinkFormat(…)}}, or decorate a class with "
            "@ReasoningParserManager.register_module(name)",
        )
    return found
