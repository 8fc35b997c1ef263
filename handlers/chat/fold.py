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

    def add(self, event: ChatEvent) -> None:
        if isinstance(event, ContentDelta):
            self.text += event.text
            self.token_ids += event.token_ids
            if event.logprobs is not None:
                self.logprobs = self.logprobs or []
                self.logprobs += event.logprobs
            self.num_prompt_tokens = event.num_prompt_tokens
            self.num_cached_tokens = event.num_cached_tokens
            self.num_reasoning_tokens += event.num_reasoning_tokens
            self.num_hidden_tokens += event.num_hidden_tokens
            self.prompt_logprobs = self.prompt_logprobs or event.prompt_logprobs
        elif isinstance(event, ReasoningDelta):
            self.reasoning += event.text
        elif isinstance(event, ToolCallStart):
            self.calls.append(CallResult(event.call_id, event.name))
        elif isinstance(event, ToolCallArguments):
            self.calls[event.call_index].arguments += event.text
        else:
            self.reason, self.stop_reason = event.reason, event.stop_reason
            self.calls_complete = event.calls_complete


async def fold(events: AsyncGenerator[ChatEvent, None], num_choices: int) -> list[ChoiceResult]:
    """Choices in the order of their indices. Leaving early, as when cancelled, closes the events."""
    choices = [ChoiceResult(index) for index in range(num_choices)]
    try:
        async for event in events:
            choices[event.index].add(event)
    finally:
        await events.aclose()
    return choices
