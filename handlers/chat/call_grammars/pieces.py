"""What grammars of calls are made of. The formats are those of `engine.grammars.answers` and of structural tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from specserve.handlers.chat.call_grammars.parameters import Parameter

Format = dict[str, Any]
SPACE: Format = {"type": "regex", "pattern": "[ \\n]{0,8}"}
"""Between marks and calls."""
BETWEEN: Format = {"type": "regex", "pattern": "\\s{0,2}"}
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenTool:
    """A tool as its calls are written.

    schema      of the arguments; None: any object will do
    parameters  the same one by one; None: any will do
    """

    name: str
    schema: Mapping[str, Any] | None = None
    parameters: Sequence[Parameter] | None = None

    @property
    def arguments(self) -> Format:
        """As JSON."""
        return json_value(ANY_OBJECT if self.schema is None else self.schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallGrammar:
    """Calls of some tools.

    starts    marks that begin calls, and the forms of what follows
    excludes  other marks that the format's parser takes notice of
    bare      calls that begin an answer without a mark, with the character `bars`
    """

    starts: Mapping[str, Sequence[Format]] = field(default_factory=dict)
    excludes: tuple[str, ...] = ()
    bare: Format | None = None
    bars: str = ""

    def in_text(self, *, only_one: bool) -> Format:
        """Free text with calls in it, or bare calls. An answer that may have one call only ends with it."""
        marked = {
            "type": "calls",
            "starts": self.starts,
            "excludes": self.excludes,
            "bars": self.bars,
            "only_one": only_one,
        }
        return marked if self.bare is None else either(sequence(SPACE, self.bare), marked)

    def alone(self, *, only_one: bool) -> Format:
        """Nothing but calls, at least one."""
        forms: list[Format] = [] if self.bare is None else [self.bare]
        marked = [sequence(text(start), either(*found)) for start, found in self.starts.items()]
        if marked:
            forms.append(either(*marked) if only_one else repeat(either(*marked), BETWEEN))
        return sequence(SPACE, either(*forms))


class CallGrammarFactory(Protocol):
    """The grammar of a format's calls. `only_one`: an answer may have one call at most."""

    def __call__(self, tools: Sequence[WrittenTool], *, only_one: bool) -> CallGrammar: ...


def text(value: str) -> Format:
    return {"type": "const_string", "value": value}


def pattern(value: str) -> Format:
    return {"type": "regex", "pattern": value}


def json_value(schema: Mapping[str, Any] | bool) -> Format:
    return {"type": "json_schema", "json_schema": schema}


def up_to(*ends: str, excludes: Sequence[str] = (), least: int = 0, most: int | None = None) -> Format:
    """Free text up to and with the first of `ends`."""
    return {"type": "text", "until": list(ends), "excludes": list(excludes), "least": least, "most": most}


def optional(content: Format) -> Format:
    return {"type": "optional", "content": content}


def repeat(content: Format, separator: Format) -> Format:
    """Once or more."""
    return {"type": "repeat", "content": content, "separator": separator}


def entries(found: Sequence[tuple[Format, bool]], separator: str) -> Format:
    """Each with whether it is required."""
    listed = [{"content": content, "is_required": is_required} for content, is_required in found]
    return {"type": "entries", "entries": listed, "separator": text(separator)}


def sequence(*found: Format) -> Format:
    return found[0] if len(found) == 1 else {"type": "sequence", "elements": list(found)}


def either(*found: Format) -> Format:
    return found[0] if len(found) == 1 else {"type": "or", "elements": list(found)}
