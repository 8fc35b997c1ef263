"""Inputs that are too long, where the request lets their oldest items go: `truncation: auto`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from specserve.engine.errors import PromptTooLongError
from specserve.generated.errors import ContextLengthExceeded
from specserve.handlers.chat.conversation import Message
from specserve.handlers.chat.preparation import ChatPreparation, ChatRequest
from specserve.handlers.context import RequestContext

HEADER = "x-dropped-messages"
KEPT_FOR_ANSWER = 4
"""Once something has to go, so much does that at least a fourth of the context is left for the answer, unless the
request asks for less."""


async def fitting(chat: ChatPreparation, asked: ChatRequest, context: RequestContext) -> ChatRequest:
    """The request with the oldest messages left out that do not fit; the last turn and instructions at the beginning
    stay. When even those are too long nothing is left out, and the refusal says so.
    """
    model = asked.served.engine.model
    if await num_tokens(chat, asked, context) < model.max_model_len:
        return asked
    most = model.max_model_len // KEPT_FOR_ANSWER
    reserve = max(1, most if asked.length.tokens is None else min(asked.length.tokens, most))
    messages = asked.conversation.messages
    starts = turns(messages)
    low, high = 1, len(starts) - 1  # how many turns go; all but the last may
    found: ChatRequest | None = None
    while low <= high:
        middle = (low + high) // 2
        candidate = without(asked, starts[0], starts[middle])
        if await num_tokens(chat, candidate, context) + reserve <= model.max_model_len:
            found, high = candidate, middle - 1
            context.response_headers[HEADER] = str(starts[middle] - starts[0])
        else:
            low = middle + 1
    return found or asked


async def num_tokens(chat: ChatPreparation, asked: ChatRequest, context: RequestContext) -> int:
    """More than any context when the text is too long to be tokenized."""
    try:
        _, prompt = await chat.prompt(asked, context)
    except (ContextLengthExceeded, PromptTooLongError):
        return asked.served.engine.model.max_model_len + 1
    return len(prompt)


def turns(messages: Sequence[Message]) -> list[int]:
    """Where the parts begin that can only go as a whole: a message, with the results of calls that follow it.

    Instructions at the beginning are no part.
    """
    first = next((at for at, one in enumerate(messages) if one["role"] not in ("system", "developer")), len(messages))
    return [at for at in range(first, len(messages)) if at == first or messages[at]["role"] != "tool"] or [first]


def without(asked: ChatRequest, begin: int, end: int) -> ChatRequest:
    messages = asked.conversation.messages
    kept = [*messages[:begin], *messages[end:]]
    return replace(asked, conversation=replace(asked.conversation, messages=kept))
