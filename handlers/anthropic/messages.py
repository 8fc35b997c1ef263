"""POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator

from specserve.generated import schemas
from specserve.generated.operations import MessagesApi
from specserve.handlers.anthropic.message_reply import MessageEvent, MessageReply
from specserve.handlers.anthropic.prepare_message import MessagePreparation
from specserve.handlers.chat.answers import answer_events
from specserve.handlers.context import RequestContext


class Messages(MessagesApi[RequestContext]):
    def __init__(self, preparation: MessagePreparation) -> None:
        self._preparation = preparation

    async def create_message(
        self, body: schemas.MessagesRequest, context: RequestContext
    ) -> schemas.MessageReply | AsyncIterator[MessageEvent]:
        chat = await self._preparation.prepare(body, context)
        context.note(chat.request)
        answer = answer_events(chat, id_prefix="toolu_", shows_reasoning=shows_thoughts(body))
        reply = MessageReply(f"msg_{context.identity.id}", chat.served.name, chat, body.max_tokens)
        return reply.events(answer) if body.stream else await reply.whole(answer)

    async def count_message_tokens(
        self, body: schemas.CountTokensRequest, context: RequestContext
    ) -> schemas.TokenCount:
        num_tokens = await self._preparation.count(body, context)
        count = schemas.TokenCount(input_tokens=num_tokens)
        if body.context_management is not None:
            count.context_management = schemas.ContextCount(original_input_tokens=num_tokens)
        return count


def shows_thoughts(body: schemas.MessagesRequest) -> bool:
    thinking = body.thinking
    if isinstance(thinking, schemas.ThinkingEnabled | schemas.ThinkingAdaptive):
        return thinking.display != "omitted"
    return True
