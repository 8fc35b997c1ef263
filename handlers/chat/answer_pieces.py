"""What a model's text is made of, and the interface of everything that takes it apart. Knows no choices and no wire.

Parsers of tool calls and of reasoning, ours and plugins, are `AnswerParser`s. They are fed the text as it comes and
say what of it is certain. The one law: however the text is cut, the pieces fold to the same whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from specserve.handlers.chat.conversation import Tool


@dataclass(frozen=True, slots=True)
class Content:
    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningEnd:
    """What was thought is complete; its tokens are counted up to here."""


@dataclass(frozen=True, slots=True)
class CallStart:
    """A tool call begins. `call_id` is the model's own, None where its format has none."""

    name: str
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the JSON text of the arguments of the call that began last."""

    text: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The arguments are complete. A call without this was cut, or written wrongly."""


Piece = Content | Reasoning | ReasoningEnd | CallStart | CallArguments | CallEnd


class AnswerParser(Protocol):
    """Takes one answer apart. Made anew for every choice of every request."""

    def feed(self, text: str) -> Sequence[Piece]:
        """What has become certain with this text; nothing while it may still turn out to be a mark."""

    def finish(self, *, is_cut: bool) -> Sequence[Piece]:
        """The rest. `is_cut`: the answer reached its limit, so that what is open stays open."""


class ReasoningReader(AnswerParser, Protocol):
    """Takes the reasoning out of an answer."""

    @property
    def is_over(self) -> bool:
        """What comes now is content, whatever it is: nobody need ask."""


class AnswerParserFactory(Protocol):
    """A tool format: a parser for one answer of a request that offers these tools."""

    def __call__(self, tools: Sequence[Tool]) -> AnswerParser: ...


@dataclass(slots=True)
class FoldedCall:
    name: str
    call_id: str | None
    arguments: str = ""
    is_complete: bool = False


@dataclass(slots=True)
class FoldedAnswer:
    """All pieces of one answer, put together."""

    content: str = ""
    reasoning: str = ""
    calls: list[FoldedCall] = field(default_factory=list)


def fold_pieces(pieces: Iterable[Piece]) -> FoldedAnswer:
    folded = FoldedAnswer()
    for piece in pieces:
        if isinstance(piece, Content):
            folded.content += piece.text
        elif isinstance(piece, Reasoning):
            folded.reasoning += piece.text
        elif isinstance(piece, CallStart):
            folded.calls.append(FoldedCall(piece.name, piece.call_id))
        elif isinstance(piece, CallArguments):
            folded.calls[-1].arguments += piece.text
        elif isinstance(piece, CallEnd):
            folded.calls[-1].is_complete = True
    return folded
