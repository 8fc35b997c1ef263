"""What happens in an answer, in no protocol's words. Streams are written from these, whole answers folded from them."""

from __future__ import annotations

from dataclasses import dataclass

from specserve.engine.api import FinishReason, TokenLogprobs


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentDelta:
    """New text of one choice with the tokens it came from; the text may be empty while something is held back."""

    index: int
    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None
    """In the first piece, if they were asked for."""
    num_reasoning_tokens: int = 0
    """How many of its tokens were spent on reasoning."""
    num_hidden_tokens: int = 0
    """Tokens that count and are not in `token_ids`: nobody is to see the reasoning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFinished:
    """One choice is complete: the last event with its index. `calls_complete`: it was to call tools, and did."""

    index: int
    reason: FinishReason
    stop_reason: str | int | None = None
    calls_complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningDelta:
    """New text of a choice that is thought, not said."""

    index: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallStart:
    """A choice begins to call a tool. `call_index` counts the calls of one choice from 0."""

    index: int
    call_index: int
    call_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallArguments:
    """More of the JSON text that is the arguments of a call."""

    index: int
    call_index: int
    text: str


ChatEvent = ContentDelta | ReasoningDelta | ToolCallStart | ToolCallArguments | ChatFinished
