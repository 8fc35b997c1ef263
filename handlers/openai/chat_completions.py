"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator

from specserve.generated import schemas
from specserve.generated.base import Serialised
from specserve.generated.operations import ChatApi
from specserve.handlers.chat.answers import answer_events
from specserve.handlers.chat.whole_answers import whole_answers
from specserve.handlers.context import RequestContext
from specserve.handlers.openai.chat_reply import ChatReply, ChunkEvent
from specserve.handlers.openai.prepare_chat import CompletionPreparation
from specserve.handlers.openai.reply import TokenNames
from specserve.handlers.openai.reply_defaults import ReplyDefaults


class ChatCompletions(ChatApi[RequestContext]):
    def __init__(self, preparation: CompletionPreparation, defaults: ReplyDefaults | None = None) -> None:
        self._preparation = preparation
        self._defaults = defaults or ReplyDefaults()

    async def create_chat_completion(
        self, body: schemas.ChatCompletionRequest, context: RequestContext
    ) -> schemas.ChatCompletion | Serialised[schemas.ChatCompletion] | AsyncIterator[ChunkEvent]:
        self._defaults.fill(body)
        prepared = await self._preparation.prepare(body, context)
        chat = prepared.chat
        context.note(chat.request)
        names = TokenNames(chat.served.engine.tokenizer, bool(body.return_tokens_as_token_ids))
        reply = ChatReply(names, body, prepared)
        n, beams, shows_reasoning = body.n or 1, prepared.beams, body.include_reasoning
        if not body.stream:
            return await reply.whole(await whole_answers(chat, n=n, beams=beams, shows_reasoning=shows_reasoning))
        return reply.chunks(
            answer_events(chat, n=n, beams=beams, shows_reasoning=shows_reasoning, stream_interval=body.stream_interval)
        )
