"""What can be done with a response that was kept: show it, send its events again, cancel, forget, list its input."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

from specserve.generated import schemas
from specserve.generated.base import Serialised
from specserve.generated.errors import (
    InvalidParameterCombination,
    InvalidResponseState,
    ItemNotFound,
    ResponseNotFound,
)
from specserve.handlers.context import RequestContext
from specserve.handlers.openai.responses.background import BackgroundResponses
from specserve.handlers.openai.responses.recording import Recording
from specserve.handlers.openai.responses.store import ResponseStore, StoredResponse, items_of

ReplayedEvent = Serialised[schemas.ResponseStreamEvent]
ID = "response_id"


class Retrieval:
    """Only what the key of a request made is there for it; everything else looks as if it had never been."""

    def __init__(self, store: ResponseStore, background: BackgroundResponses) -> None:
        self._store = store
        self._background = background

    async def retrieve_response(
        self, response_id: str, query: schemas.RetrieveResponseQuery, context: RequestContext
    ) -> schemas.Response | AsyncGenerator[ReplayedEvent, None]:
        if query.starting_after is not None and not query.stream:
            raise InvalidParameterCombination(
                "starting_after is given without stream; add stream=true, or leave it out", param="starting_after"
            )
        after = -1 if query.starting_after is None else query.starting_after
        run = self._background.find(context.owner, response_id)
        if run is not None:
            if query.stream and not run.is_recorded:
                raise not_recorded(response_id)
            return run.follow(after) if query.stream else run.latest
        kept = await self._kept(context.owner, response_id)
        if not query.stream:
            return schemas.Response.model_validate_json(kept.response)
        if not kept.events:
            raise not_recorded(response_id)
        return replay(kept.events, after)

    async def cancel_response(self, response_id: str, context: RequestContext) -> schemas.Response:
        """Cancelling again is no error, cancelling what has ended otherwise is one."""
        run = self._background.find(context.owner, response_id)
        if run is not None:
            await self._background.cancel(run)
            response = run.latest
        else:
            kept = await self._kept(context.owner, response_id)
            response = schemas.Response.model_validate_json(kept.response)
        if response.status != "cancelled":
            made = "was not made in the background" if not response.background else f"is {response.status} already"
            raise InvalidResponseState(
                f"response {response_id} {made}; only what is queued or in progress there can be cancelled", param=ID
            )
        return response

    async def delete_response(self, response_id: str, context: RequestContext) -> schemas.DeletedResponse:
        run = self._background.find(context.owner, response_id)
        if run is not None:
            await self._background.cancel(run)
        if not await self._store.delete(context.owner, response_id) and run is None:
            raise not_found(response_id)
        return schemas.DeletedResponse(id=response_id, object="response", deleted=True)

    async def list_response_input_items(
        self, response_id: str, query: schemas.ListResponseInputItemsQuery, context: RequestContext
    ) -> schemas.ItemList:
        """What the model was given, turns before this one included; the newest first, unless asked otherwise."""
        chain = await self._store.chain(context.owner, response_id)
        run = self._background.find(context.owner, response_id)
        if run is not None:
            chain = [*run.earlier, run.kept]
        if chain is None:
            raise not_found(response_id)
        items = [*items_of(chain[:-1]), *json.loads(chain[-1].input_items)]
        return page(items if query.order == "asc" else items[::-1], query.after, query.limit)

    async def _kept(self, owner: str, response_id: str) -> StoredResponse:
        kept = await self._store.get(owner, response_id)
        if kept is None:
            raise not_found(response_id)
        return kept


async def replay(packed: bytes, after: int) -> AsyncGenerator[ReplayedEvent, None]:
    for event in Recording.unpacked(packed).events(after + 1):
        yield event


def page(items: list[dict[str, Any]], after: str | None, limit: int) -> schemas.ItemList:
    """The items behind the one called `after`. Raises ItemNotFound."""
    start = 0
    if after is not None:
        start = next((at for at, item in enumerate(items, start=1) if item["id"] == after), 0)
        if not start:
            raise ItemNotFound(
                f"after is {after[:200]}, and no item of this response has that id; begin without after", param="after"
            )
    shown = items[start : start + limit]
    return schemas.ItemList.model_validate(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": start + limit < len(items),
        }
    )


def not_found(response_id: str, param: str = ID) -> ResponseNotFound:
    return ResponseNotFound(
        f"no response {response_id[:200]} is kept for this key; it was never stored, was deleted, or is too old",
        param=param,
    )


def not_recorded(response_id: str) -> InvalidResponseState:
    return InvalidResponseState(
        f"the events of response {response_id} were not kept; only those of responses that were created with "
        "background and stream are",
        param="stream",
    )
