"""Which formats a server reads its model's answers by: named by its owner, or told by the chat template."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

from specserve.handlers.chat.answer_pieces import AnswerParser, Content, Piece, ReasoningReader
from specserve.handlers.chat.conversation import Tool
from specserve.handlers.chat.format_detection import detected_reasoning_format, detected_tool_format
from specserve.handlers.chat.reasoning_formats.plugins import load_reasoning_plugin
from specserve.handlers.chat.reasoning_formats.registry import REASONING_FORMATS, ReasoningFormat
from specserve.handlers.chat.reasoning_formats.think import Opening, ThinkParser
from specserve.handlers.chat.scanner import NEVER
from specserve.handlers.chat.tool_formats.harmony import HarmonyParser
from specserve.handlers.chat.tool_formats.plugins import load_plugin
from specserve.handlers.chat.tool_formats.registry import TOOL_FORMATS
from specserve.handlers.chat.tool_formats.tool_format import ToolFormat
from specserve.handlers.flags import UsageError, unknown_name
from specserve.handlers.settings import ServerSettings

AUTO, NONE = "auto", "none"
HARMONY = "openai"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFormats:
    """None: answers are not searched for that."""

    tools: ToolFormat | None
    reasoning: ReasoningFormat | None
    _beginnings: dict[tuple[bool, Opening | None], re.Pattern[str] | None] = field(
        default_factory=dict, compare=False, repr=False
    )

    def beginnings(self, opening: Opening | None, *, with_calls: bool) -> re.Pattern[str] | None:
        """Characters one of which is in every answer that is not content alone; None where that is not known."""
        key = with_calls, opening
        if key not in self._beginnings:
            self._beginnings[key] = self._find_beginnings(*key)
        return self._beginnings[key]

    def _find_beginnings(self, with_calls: bool, opening: Opening | None) -> re.Pattern[str] | None:
        of_calls: frozenset[str] | None = frozenset()
        if with_calls and self.tools is not None:
            of_calls = self.tools.beginnings
        of_thoughts: frozenset[str] | None = frozenset()
        if self.reasoning is not None:
            think = self.reasoning.think
            of_thoughts = None if think is None or opening is None else think.beginnings(opening)
        if self.is_harmony or of_calls is None or of_thoughts is None:
            return None
        return re.compile("|".join(map(re.escape, of_calls | of_thoughts))) if of_calls | of_thoughts else NEVER

    @property
    def marks(self) -> tuple[str, ...]:
        """What must be in the text for reasoning to be found."""
        think = self.reasoning.think if self.reasoning is not None else None
        return (*think.starts, *think.ends) if think is not None else ()

    @property
    def is_harmony(self) -> bool:
        """One parser reads reasoning, calls and content."""
        return (self.tools is not None and self.tools.name == HARMONY) or (
            self.reasoning is not None and self.reasoning.think is None and self.reasoning.parser is None
        )

    def opening(self, prompt: str, continued: str = "") -> Opening | None:
        """What the prompt did with the reasoning; None where the format has no such thing.

        `continued` is the text of the message in which the answer goes on, if it does.
        """
        think = self.reasoning.think if self.reasoning is not None else None
        return None if think is None or self.is_harmony else think.opening_of(prompt, continued)

    def parser(self, tools: Sequence[Tool], prompt: str, continued: str = "") -> Callable[[], AnswerParser] | None:
        """Makes the parser of each answer to a prompt that offers `tools`, none if calls are not to be read.

        None: all is content. `continued` is the text of the message in which the answer goes on, if it does.
        """
        if self.is_harmony:
            takes_calls = self.tools is not None and self.tools.name == HARMONY and bool(tools)
            return partial(HarmonyParser, takes_calls=takes_calls)
        calls = partial(self.tools.parser, tools) if self.tools is not None and tools else None
        thoughts = self._thoughts(self.opening(prompt, continued))
        if thoughts is None or calls is None:
            return calls if thoughts is None else thoughts
        return lambda: ReasoningFirst(thoughts(), calls())

    def _thoughts(self, opening: Opening | None) -> Callable[[], ReasoningReader] | None:
        if self.reasoning is None or self.reasoning.parser is not None:
            return None if self.reasoning is None else self.reasoning.parser
        think = self.reasoning.think
        return None if think is None or opening is None else partial(ThinkParser, think, opening)


class ReasoningFirst:
    """An `AnswerParser` of reasoning, and of calls in what is left."""

    def __init__(self, reasoning: ReasoningReader, calls: AnswerParser) -> None:
        self._reasoning, self._calls = reasoning, calls

    def feed(self, text: str) -> Sequence[Piece]:
        if self._reasoning.is_over:
            return self._calls.feed(text)
        return self._on(self._reasoning.feed(text))

    def finish(self, *, is_cut: bool) -> Sequence[Piece]:
        if self._reasoning.is_over:
            return self._calls.finish(is_cut=is_cut)
        return [*self._on(self._reasoning.finish(is_cut=is_cut)), *self._calls.finish(is_cut=is_cut)]

    def _on(self, pieces: Sequence[Piece]) -> list[Piece]:
        found: list[Piece] = []
        for piece in pieces:
            if isinstance(piece, Content):
                found += self._calls.feed(piece.text)
            else:
                found.append(piece)
        return found


class FormatChoice:
    """What the flags say. `plugins` are formats beside the built-in ones. Raises UsageError for unknown names."""

    def __init__(
        self,
        *,
        tool_parser: str = AUTO,
        reasoning_parser: str = AUTO,
        plugins: Mapping[str, ToolFormat] | None = None,
        reasoning_plugins: Mapping[str, ReasoningFormat] | None = None,
    ) -> None:
        self._tool_formats = {**TOOL_FORMATS, **(plugins or {})}
        self._tool_parser = known(tool_parser, self._tool_formats, "--tool-call-parser")
        self._reasoning_formats = {**REASONING_FORMATS, **(reasoning_plugins or {})}
        self._reasoning_parser = known(reasoning_parser, self._reasoning_formats, "--reasoning-parser")
        self.for_template = lru_cache(maxsize=8)(self._for_template)

    @classmethod
    def of(cls, settings: ServerSettings) -> FormatChoice:
        """Loads the plugins, if there are any. Raises UsageError."""
        thoughts = settings.reasoning_parser_plugin
        return cls(
            tool_parser=settings.tool_call_parser if settings.enable_auto_tool_choice else NONE,
            reasoning_parser=settings.reasoning_parser,
            plugins=load_plugin(settings.tool_parser_plugin) if settings.tool_parser_plugin is not None else {},
            reasoning_plugins=load_reasoning_plugin(thoughts) if thoughts is not None else {},
        )

    def _for_template(self, template: str) -> AnswerFormats:
        """The formats of a model with this chat template."""
        tools = detected_tool_format(template) if self._tool_parser == AUTO else self._tool_parser
        reasoning = detected_reasoning_format(template) if self._reasoning_parser == AUTO else self._reasoning_parser
        return AnswerFormats(
            tools=self._tool_formats.get(tools or NONE), reasoning=self._reasoning_formats.get(reasoning or NONE)
        )

    def remark(self, template: str) -> str | None:
        """For whoever starts the server: what answers are searched for. None: nothing."""
        formats = self.for_template(template)
        found = [("tool calls", formats.tools), ("reasoning", formats.reasoning)]
        return ", ".join(f"{what} as {form.name}" for what, form in found if form is not None) or None


def known(name: str, formats: Mapping[str, object], flag: str) -> str:
    if name not in formats and name not in (AUTO, NONE):
        near = unknown_name(name, list(formats), f"{flag} knows no")
        raise UsageError(near.cause, f"it knows {AUTO}, {NONE}, {', '.join(sorted(formats))}")
    return name
