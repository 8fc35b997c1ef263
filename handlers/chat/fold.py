"""The whole answer is the folded stream, so the two cannot disagree."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from specserve.engine.api import FinishReason, TokenLogprobs
from specserve.handlers.chat.events import ChatEvent, ContentDelta, ReasoningDelta, ToolCallArguments, ToolCallStart


@dataclass(slots=True)
class CallResult:
    """One tool call, folded. `arguments` is JSON text, cut short when the choice ended by length."""

    call_id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class ChoiceResult:
    """One choice, folded."""

    index: int
    text: str = ""
    reasoning: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] | None = None
    calls: list[CallResult] = field(default_factory=list)
    reason: FinishReason | None = None
    stop_reason: str | int | None = None
    calls_complete: bool = False
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None
    num_reasoning_tokens: int = 0
    num_hidden_tokens: int = 0


async def fold(events: AsyncGenerator[ChatEvent, None], num_choices: int) -> list[ChoiceResult]:
    """Choices in the order of their indices. Leaving early, as when cancelled, closes the events."""
    choices = [ChoiceResult(index) for index in range(num_choices)]
    try:
        async for event in events:
            choice = choices[event.index]
            if isinstance(event, ContentDelta):
                choice.text += event.text
                choice.token_ids += event.token_ids
                if event.logprobs is not None:
                    choice.logprobs = choice.logprobs or []
                    choice.logprobs += event.logprobs
                choice.num_prompt_tokens = event.num_prompt_tokens
                choice.num_cached_tokens = event.num_cached_tokens
                choice.num_reasoning_tokens += event.num_reasoning_tokens
                choice.num_hidden_tokens += event.num_hidden_tokens
                choice.prompt_logprobs = choice.prompt_logprobs or event.prompt_logprobs
            elif isinstance(event, ReasoningDelta):
                choice.reasoning += event.text
            elif isinstance(event, ToolCallStart):
                choice.calls.append(CallResult(event.call_id, event.name))
            elif isinstance(event, ToolCallArguments):
                choice.calls[event.call_index].arguments += event.text
            else:
                choice.reason, choice.stop_reason = event.reason, event.stop_reason
                choice.calls_complete = event.calls_complete
    finally:
        await events.aclose()
    return choices
