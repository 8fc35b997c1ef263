"""From the body of a message request to what every chat protocol asks for."""

from __future__ import annotations

import asyncio
from typing import Any

from specserve.engine.errors import PromptTooLongError
from specserve.generated import schemas
from specserve.generated.errors import ContextLengthExceeded, InvalidParameterCombination
from specserve.handlers import fields
from specserve.handlers.answer_length import AskedLength
from specserve.handlers.anthropic.tools import MessageTools, read_tools
from specserve.handlers.anthropic.turns import to_conversation
from specserve.handlers.chat.constraint import Constraint, ConstraintOptions
from specserve.handlers.chat.conversation import template_variables
from specserve.handlers.chat.preparation import ChatPreparation, ChatRequest, PreparedChat
from specserve.handlers.context import RequestContext
from specserve.handlers.model_directory import ModelDirectory
from specserve.handlers.sampling import AskedSampling

THINKS = {"enabled": True, "disabled": False}
"""What the template is told; the other forms leave it to the model."""
TOO_LONG = "prompt is too long"
"""By these words agents notice that they have to shorten the conversation."""


class MessagePreparation:
    def __init__(self, directory: ModelDirectory, chat: ChatPreparation) -> None:
        self._directory, self._chat = directory, chat

    async def prepare(self, body: schemas.MessagesRequest, context: RequestContext) -> PreparedChat:
        """Raises what the contract lists as refusals."""
        fields.MESSAGES.check(body)
        tools = self._tools(body, context)
        check_thinking(body)
        asked = self._read(body, tools)
        try:
            return await self._chat.prepare(asked, context)
        except (PromptTooLongError, ContextLengthExceeded) as error:
            raise too_long(error) from error

    async def count(self, body: schemas.CountTokensRequest, context: RequestContext) -> int:
        """Tokens of the prompt, which may be more than the model reads. Raises what the contract lists as refusals."""
        fields.COUNT_TOKENS.check(body)
        asked = self._read(body, self._tools(body, context))
        _, token_ids = await asyncio.to_thread(self._chat.render, asked, is_limited=False)
        return len(token_ids)

    def _tools(self, body: schemas.MessagesPrompt, context: RequestContext) -> MessageTools:
        tools = read_tools(body, hide_unused=self._chat.options.hides_unused_tools)
        tools.report(context.response_headers)
        return tools

    def _read(self, body: schemas.MessagesRequest | schemas.CountTokensRequest, tools: MessageTools) -> ChatRequest:
        variables = thinking_variables(body) | template_variables(body.chat_template_kwargs)
        conversation = to_conversation(body, tools.shown, variables)
        constraint = read_format(body)
        served = self._directory.generator(body.model)
        if not isinstance(body, schemas.MessagesRequest):
            return ChatRequest(
                served=served, conversation=conversation, sampling=AskedSampling(), length=AskedLength(None)
            )
        sampling = AskedSampling.of(body)
        sampling.stop = body.stop_sequences
        return ChatRequest(
            served=served,
            conversation=conversation,
            use=tools.use,
            constraint=None if tools.use.is_forced else constraint,
            sampling=sampling,
            length=AskedLength(body.max_tokens),
            max_thought=body.thinking.budget_tokens if isinstance(body.thinking, schemas.ThinkingEnabled) else None,
            thought_param=None,
            cache_salt=body.cache_salt or "",
        )


def check_thinking(body: schemas.MessagesRequest) -> None:
    """Raises InvalidParameterCombination."""
    thinking = body.thinking
    if not isinstance(thinking, schemas.ThinkingEnabled):
        return
    if thinking.budget_tokens >= body.max_tokens:
        raise InvalidParameterCombination(
            f"thinking.budget_tokens is {thinking.budget_tokens}, max_tokens is {body.max_tokens}, and thoughts count; "
            "lower the first or raise the second",
            param="thinking.budget_tokens",
        )


def thinking_variables(body: schemas.MessagesPrompt) -> dict[str, Any]:
    """What templates know as `enable_thinking` and `reasoning_effort`."""
    found: dict[str, Any] = {}
    if body.thinking is not None and body.thinking.type in THINKS:
        found["enable_thinking"] = THINKS[body.thinking.type]
    if body.output_config is not None and body.output_config.effort is not None:
        found["reasoning_effort"] = body.output_config.effort
    return found


def read_format(body: schemas.MessagesPrompt) -> Constraint | None:
    """The form the text must have. Raises InvalidParameterCombination when it is said twice."""
    current = body.output_config.format if body.output_config is not None else None
    if current is not None and body.output_format is not None:
        raise InvalidParameterCombination(
            "output_config.format and output_format are the same in two places; send the first", param="output_format"
        )
    asked, place = (current, "output_config.format") if current is not None else (body.output_format, "output_format")
    if asked is None:
        return None
    return ConstraintOptions().constraint("json_schema", asked.schema_, f"{place}.schema")


def too_long(error: PromptTooLongError | ContextLengthExceeded) -> ContextLengthExceeded:
    """The refusal in the words that agents look for."""
    if isinstance(error, PromptTooLongError):
        told = f"{TOO_LONG}: {error.num_tokens} tokens > {error.limit} maximum ({error})"
    elif error.param == "messages":
        told = f"{TOO_LONG}: {error.message}"
    else:  # it is the answer that does not fit
        return error
    return ContextLengthExceeded(told, param=error.param)
