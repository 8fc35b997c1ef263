"""The operations of /v1/responses: making one is here, and what can be done with a stored one in `retrieval`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from specserve.generated import schemas
from specserve.generated.base import Serialised
from specserve.generated.operations import ResponsesApi
from specserve.handlers.chat.answers import answer_events
from specserve.handlers.chat.conversation import Message
from specserve.handlers.context import RequestContext
from specserve.handlers.errors import to_api_error
from specserve.handlers.openai.reply import TokenNames, TokenWriter, UsageCount
from specserve.handlers.openai.reply_defaults import ReplyDefaults
from specserve.handlers.openai.responses.background import BackgroundResponses
from specserve.handlers.openai.responses.connection_store import ConnectionStore
from specserve.handlers.openai.responses.conversation import to_messages
from specserve.handlers.openai.responses.events import ResponseWriter
from specserve.handlers.openai.responses.items import Placed, of_listed
from specserve.handlers.openai.responses.prepare import PreparedResponse, ResponsePreparation
from specserve.handlers.openai.responses.response_object import first_response, response_id
from specserve.handlers.openai.responses.retrieval import Retrieval
from specserve.handlers.openai.responses.run import Keeping, Run, listed_bytes
from specserve.handlers.openai.responses.store import ResponseStore

Answered = schemas.Response | AsyncIterator[schemas.ResponseStreamEvent | Serialised[schemas.ResponseStreamEvent]]
SEALED = "reasoning.encrypted_content"


class Responses(ResponsesApi[RequestContext]):
    def __init__(
        self,
        preparation: ResponsePreparation,
        store: ResponseStore,
        background: BackgroundResponses,
        defaults: ReplyDefaults | None = None,
        unstored: ResponseStore | None = None,
    ) -> None:
        """`unstored` keeps what is not to be stored, for as long as a connection lasts."""
        self._preparation, self._store, self._background = preparation, store, background
        self._unstored = unstored
        self._retrieval = Retrieval(store, background)
        self._defaults = defaults or ReplyDefaults()

    def on_connection(self, unstored: ResponseStore) -> Responses:
        """The same for one connection, which goes on from what was not stored too."""
        store = ConnectionStore(unstored, self._store)
        preparation = self._preparation.with_store(store)
        return Responses(preparation, self._store, self._background, self._defaults, unstored)

    async def create_response(self, body: schemas.ResponseRequest, context: RequestContext) -> Answered:
        own_id = response_id(body.request_id)
        if body.background:
            self._background.check(context.owner, own_id, is_stored=body.store is not False)
        prepared = await self._preparation.prepare(body, context)
        context.note(prepared.chat.request)
        run = self._run(body, prepared, own_id, context)
        if body.background:
            return await self._in_background(run, bool(body.stream), context)
        if not body.stream:
            return await run.whole()
        deadline, context.deadline = context.deadline, None  # the stream has its own words for the end of time
        if deadline is not None:
            run.answer = deadline.items(run.answer)
        return run.events()

    async def _in_background(self, run: Run, is_streamed: bool, context: RequestContext) -> Answered:
        context.deadline = None  # nobody waits
        keeping, run.keeping = run.keeping, None
        assert keeping is not None
        first = run.response.model_copy(update={"status": "queued"})
        made = await self._background.start(
            first,
            run.background_events(),
            owner=context.owner,
            input_items=keeping.input_items,
            earlier=keeping.chain,
            is_recorded=is_streamed,
        )
        return made.follow() if is_streamed else first

    def _run(
        self, body: schemas.ResponseRequest, prepared: PreparedResponse, own_id: str, context: RequestContext
    ) -> Run:
        chat = prepared.chat
        as_ids = body.return_tokens_as_token_ids
        names = TokenNames(chat.served.engine.tokenizer, self._defaults.tokens_as_ids if as_ids is None else as_ids)
        tokens = TokenWriter.of(names, skip_special_tokens=body.skip_special_tokens, continues_text=False)
        writer = ResponseWriter(
            response=first_response(body, chat, own_id),
            count=UsageCount(len(chat.prompt), 1),
            known=prepared.tools.known,
            describe=tokens.describe,
            max_calls=body.max_tool_calls,
            seals=SEALED in (body.include or []),
        )

        def finish(response: schemas.Response) -> None:
            if body.enable_response_messages:
                asked = prepared.conversation.messages[body.instructions is not None :]
                response.input_messages = list(map(open_object, asked))
                response.output_messages = list(map(open_object, messages_of(response)))

        is_stored, keeping = body.store is not False, None
        store = self._store if is_stored else self._unstored
        if store is not None:
            own = listed_bytes(prepared.items.own)
            keeping = Keeping(store, context.owner, own, tuple(prepared.chain), is_promised=is_stored)
        return Run(
            writer=writer,
            answer=answer_events(chat, shows_reasoning=body.include_reasoning),
            to_error=lambda error: to_api_error(error, request_id=context.identity.id),
            finish=finish,
            keeping=keeping,
        )

    async def count_response_input_tokens(
        self, body: schemas.InputTokensRequest, context: RequestContext
    ) -> schemas.InputTokenCount:
        num_tokens = await self._preparation.count(body, context)
        await asyncio.sleep(0)  # a deadline that has passed is noticed by the event loop only
        return schemas.InputTokenCount(object="response.input_tokens", input_tokens=num_tokens)

    async def retrieve_response(
        self, response_id: str, query: schemas.RetrieveResponseQuery, context: RequestContext
    ) -> Answered:
        return await self._retrieval.retrieve_response(response_id, query, context)

    async def cancel_response(self, response_id: str, context: RequestContext) -> schemas.Response:
        return await self._retrieval.cancel_response(response_id, context)

    async def delete_response(self, response_id: str, context: RequestContext) -> schemas.DeletedResponse:
        return await self._retrieval.delete_response(response_id, context)

    async def list_response_input_items(
        self, response_id: str, query: schemas.ListResponseInputItemsQuery, context: RequestContext
    ) -> schemas.ItemList:
        return await self._retrieval.list_response_input_items(response_id, query, context)


def messages_of(response: schemas.Response) -> list[Message]:
    """The answer as the messages that the next prompt would have."""
    items = [item.model_dump(by_alias=True, exclude_none=True) for item in response.output]
    return to_messages([Placed(of_listed(item), "output") for item in items])


def open_object(message: dict[str, Any]) -> schemas.OpenObject:
    return schemas.OpenObject.model_validate(message)
