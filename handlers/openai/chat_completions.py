"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from specserve.generated import schemas
from specserve.generated.operations import ChatApi
from specserve.handlers.chat.beam_search import stream_beams
from specserve.handlers.chat.json_calls import read_calls
from specserve.handlers.chat.pipeline import siblings, stream_chat
from specserve.handlers.chat.read_answers import read_answers
from specserve.handlers.chat.tool_ids import new_call_id
from specserve.handlers.context import RequestContext
from specserve.handlers.openai.chat_reply import ChatReply, ChunkEvent
from specserve.handlers.openai.prepare_chat import ChatPreparation
from specserve.handlers.openai.reply import TokenNames
from specserve.handlers.openai.reply_defaults import ReplyDefaults


class ChatCompletions(ChatApi[RequestContext]):
    def __init__(self, preparation: ChatPreparation, defaults: ReplyDefaults | None = None) -> None:
        self._preparation = preparation
        self._defaults = defaults or ReplyDefaults()

    async def create_chat_completion(
        self, body: schemas.ChatCompletionRequest, context: RequestContext
    ) -> schemas.ChatCompletion | AsyncIterator[ChunkEvent]:
        self._defaults.fill(body)
        chat = await self._preparation.prepare(body, context)
        context.note(chat.request)
        engine = chat.served.engine
        if chat.beams is not None:
            events = stream_beams(engine, [chat.request], chat.beams)
        else:
            events = stream_chat(engine, siblings(chat.request, body.n or 1))
        new_id = partial(new_call_id, short=chat.short_ids)
        if chat.tools.use.is_forced:
            events = read_calls(events, lambda index: chat.tools.use.reader(index, new_id))
        elif chat.parser is not None:
            events = read_answers(
                events,
                chat.parser,
                new_id,
                max_calls=None if chat.tools.use.parallel else 1,
                shows_reasoning=body.include_reasoning,
            )
        reply = ChatReply(TokenNames(engine.tokenizer, bool(body.return_tokens_as_token_ids)), body, chat)
        return reply.chunks(events) if body.stream else await reply.whole(events)
