"""One response being made: its events as they come, or the whole of it, and the place where it is kept."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from specserve.generated import schemas
from specserve.generated.errors import ApiError
from specserve.handlers.chat.events import ChatEvent
from specserve.handlers.openai.responses.events import ResponseWriter
from specserve.handlers.openai.responses.open_items import Event
from specserve.handlers.openai.responses.store import ResponseStore, StoredResponse

logger = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""How long a stream waits for the engine's first word, so that a refusal can be a proper status."""
ENDS = (schemas.ResponseCompletedEvent, schemas.ResponseIncompleteEvent, schemas.ResponseFailedEvent)


@dataclass(frozen=True, slots=True)
class Keeping:
    """How a response is kept, once it is complete."""

    store: ResponseStore
    owner: str
    input_items: bytes
    chain: tuple[StoredResponse, ...]
    is_promised: bool = True
    """Whether the client asked for it; what is kept for one connection only is not called stored."""

    def stored(self, response: schemas.Response) -> StoredResponse:
        return StoredResponse(
            id=response.id,
            owner=self.owner,
            status=response.status,
            response=response.model_dump_json(exclude_unset=True, by_alias=True).encode(),
            input_items=self.input_items,
        )

    async def keep(self, response: schemas.Response) -> None:
        """A response that could not be kept, or is larger than the store, says that it is not stored."""
        try:
            is_kept = await self.store.put(self.stored(response), self.chain)
        except Exception:
            logger.exception("response_id=%s could not be stored", response.id)
            is_kept = False
        response.store = is_kept and self.is_promised


@dataclass(slots=True, kw_only=True)
class Run:
    """`answer` are the events of the engine's answer; `keeping` is None for what is not stored, or not by this run.

    `finish` may add to the response before it is told of.
    """

    writer: ResponseWriter
    answer: AsyncGenerator[ChatEvent, None]
    to_error: Callable[[Exception], ApiError]
    finish: Callable[[schemas.Response], None]
    keeping: Keeping | None = None

    @property
    def response(self) -> schemas.Response:
        return self.writer.response

    async def whole(self) -> schemas.Response:
        """Raises what the engine says; nothing is kept then."""
        async with aclosing(self.answer):
            for _ in self.writer.begun():
                pass
            async for event in self.answer:
                for _ in self.writer.feed(event):
                    pass
        await self._complete()
        return self.writer.response

    async def events(self) -> AsyncGenerator[Event, None]:
        """An error instead of the engine's first word is raised, if it comes soon; a later one is told as the end."""
        async with aclosing(self.answer):
            first = asyncio.ensure_future(anext(self.answer))
            try:
                await asyncio.wait({first}, timeout=PATIENCE_S)
                if first.done() and (error := first.exception()) is not None:
                    raise error
                async for item in self._told(first):
                    yield item
            finally:
                await ended(first)

    async def background_events(self) -> AsyncGenerator[Event, None]:
        """The same for a response nobody waits for: it begins queued, and every error is told as the end."""
        async with aclosing(self.answer):
            for item in self.writer.queued():
                yield item
            first = asyncio.ensure_future(anext(self.answer))
            try:
                await asyncio.wait({first})
                async for item in self._told(first):
                    yield item
            finally:
                await ended(first)

    async def _told(self, first: asyncio.Future[ChatEvent]) -> AsyncGenerator[Event, None]:
        try:
            for item in self.writer.begun():
                yield item
            for item in self.writer.feed(await first):
                yield await self._checked(item)
            async for event in self.answer:
                for item in self.writer.feed(event):
                    yield await self._checked(item)
        except Exception as error:  # whatever it is, the client learns that the answer is broken
            for item in self.writer.failed(self.to_error(error)):
                yield item

    async def _checked(self, item: Event) -> Event:
        """A client may continue from a response as soon as it hears that it is complete."""
        if isinstance(item, ENDS):
            await self._complete()
        return item

    async def _complete(self) -> None:
        self.finish(self.writer.response)
        if self.keeping is not None:
            await self.keeping.keep(self.writer.response)


async def ended(task: asyncio.Future[ChatEvent]) -> None:
    """A wait that nobody needs any more is over before what it waited for is closed."""
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def listed_bytes(items: list[dict[str, object]]) -> bytes:
    return json.dumps(items, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
