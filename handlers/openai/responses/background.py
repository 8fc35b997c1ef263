"""Responses that are made while nobody listens, and those who listen to them for a while.

A response counts as under way from `start` until it is in the store as it ended. Its last event is shown only then, so
that whoever has seen it can fetch, continue or delete the response at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from specserve.generated import schemas
from specserve.generated.base import Serialised
from specserve.generated.errors import (
    ApiError,
    InvalidParameterCombination,
    InvalidResponseState,
    InvalidValue,
    RateLimitExceeded,
    ServerOverloaded,
)
from specserve.handlers.errors import to_api_error
from specserve.handlers.openai.responses.recording import Recording
from specserve.handlers.openai.responses.store import ResponseStore, StoredResponse
from specserve.handlers.sse import name_of, payload_of

logger = logging.getLogger(__name__)

Event = schemas.ResponseStreamEvent
StreamedEvent = Event | Serialised[Event]
Events = AsyncGenerator[StreamedEvent, None]
LAST_EVENTS = (schemas.ResponseCompletedEvent, schemas.ResponseIncompleteEvent, schemas.ResponseFailedEvent)
STATES = (schemas.ResponseCreatedEvent, schemas.ResponseQueuedEvent, schemas.ResponseInProgressEvent)
RETRY_AFTER_S = 5


@dataclass(eq=False)
class BackgroundRun:
    """One response under way. `latest` is the response as its newest event shows it, `end` as its last one will."""

    latest: schemas.Response
    owner: str
    input_items: bytes
    earlier: Sequence[StoredResponse]
    is_recorded: bool
    """Whether its events are kept to be sent again."""
    recording: Recording = field(default_factory=Recording)
    done_items: list[schemas.OutputItem] = field(default_factory=list)
    num_shown: int = 0
    end: schemas.Response | None = None
    has_ended: bool = False
    work: asyncio.Task[None] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def kept(self) -> StoredResponse:
        """The response as it is to be kept now, without its events."""
        response = self.end or self.latest
        return StoredResponse(response.id, self.owner, response.status, payload_of(response), self.input_items)

    def show(self) -> None:
        """Everybody may know what was noted so far."""
        self.num_shown = len(self.recording)
        if self.end is not None:
            self.latest, self.has_ended = self.end, True
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def follow(self, after: int = -1) -> AsyncGenerator[Serialised[Event], None]:
        """The events behind number `after`: those there are, then each as it comes. Leaving has no effect."""
        at = after + 1
        while True:
            news, has_ended, stop = self._news, self.has_ended, self.num_shown
            for one in self.recording.events(at, stop):
                yield one
            at = max(at, stop)
            if has_ended:
                return
            if stop == self.num_shown:
                await news.wait()

    async def wait_end(self) -> None:
        while not self.has_ended:
            await self._news.wait()


class BackgroundResponses:
    """Bounded in number, all together and for each owner."""

    def __init__(
        self,
        store: ResponseStore,
        wait_for: Callable[[asyncio.Task[None]], None],
        max_at_once: int = 64,
        max_per_owner: int | None = None,
    ) -> None:
        """`wait_for` is told of every response under way, so that a drain waits for it."""
        self._store = store
        self._wait_for = wait_for
        self._max_at_once = max_at_once
        self._max_per_owner = max_per_owner
        self._runs: dict[tuple[str, str], BackgroundRun] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def find(self, owner: str, response_id: str) -> BackgroundRun | None:
        return self._runs.get((owner, response_id))

    def check(self, owner: str, response_id: str, *, is_stored: bool) -> None:
        """Whether one more may start now. Raises ApiError."""
        if not is_stored:
            raise InvalidParameterCombination(
                "background is true and store is false, so nobody could ever fetch the response; leave store out",
                param="background",
            )
        if not self._max_at_once:
            raise InvalidParameterCombination(
                "background is true, which this server cannot do: several processes answer, and only one of them "
                "could show or cancel the response; leave background out, or start the server without "
                "--api-server-count",
                param="background",
            )
        if (owner, response_id) in self._runs:
            raise InvalidResponseState(
                f"a response with the id {response_id} is under way; wait for it, cancel it, or choose another id",
                param="request_id",
            )
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        own = sum(owner == key for key, _ in self._runs)
        if self._max_per_owner is not None and own >= self._max_per_owner:
            raise RateLimitExceeded(
                f"{own} responses of this key are made in the background, the limit is {self._max_per_owner} at once; "
                "send the next when one has ended",
                headers=headers,
            )
        if len(self._runs) >= self._max_at_once:
            raise ServerOverloaded(
                f"{len(self._runs)} responses are made in the background, the limit is {self._max_at_once} "
                "(--max-background-responses); try again soon, or without background",
                headers=headers,
            )

    async def start(
        self,
        first: schemas.Response,
        events: Events,
        *,
        owner: str,
        input_items: bytes,
        earlier: Sequence[StoredResponse] = (),
        is_recorded: bool,
    ) -> BackgroundRun:
        """Make a response from `events` to its end, whoever listens. `first` is the response as it waits.

        Raises ApiError when there is no room for it; `events` are closed then.
        """
        run = BackgroundRun(first, owner, input_items, earlier, is_recorded)
        try:
            self.check(owner, first.id, is_stored=first.store)
            self._runs[owner, first.id] = run
            if not await self._store.put(run.kept, earlier):
                raise InvalidValue(
                    "the input, with the turns before it, has no room in the store of this server; send less, or ask "
                    "without background",
                    param="input",
                )
            run.work = asyncio.create_task(self._note_all(run, events))
        except BaseException:
            if self._runs.get((owner, first.id)) is run:
                del self._runs[owner, first.id]
                await self._store.delete(owner, first.id)  # nobody would ever end what was put there as waiting
            await events.aclose()
            raise
        self._wait_for(asyncio.create_task(self._see_through(run, run.work)))
        return run

    async def cancel(self, run: BackgroundRun) -> None:
        """End a run, and return when it has ended, as cancelled if it did not come to its end before."""
        if run.work is not None:
            run.work.cancel()
        await run.wait_end()

    async def _note_all(self, run: BackgroundRun, events: Events) -> None:
        async with aclosing(events):
            async for event in events:
                self._note(run, event)
                if run.end is not None:
                    return
                run.show()

    def _note(self, run: BackgroundRun, event: StreamedEvent) -> None:
        if run.is_recorded:
            run.recording.add(name_of(event), payload_of(event))
        if isinstance(event, schemas.OutputItemDoneEvent):
            run.done_items.append(event.item)
        elif isinstance(event, LAST_EVENTS):
            run.end = event.response
        elif isinstance(event, STATES):
            run.latest = event.response

    async def _see_through(self, run: BackgroundRun, work: asyncio.Task[None]) -> None:
        """To the end of a run, which is told and kept however it comes."""
        await asyncio.wait((work,))
        if work.cancelled():
            self._note(run, cut_off(run, None))
        elif (error := work.exception()) is not None:
            self._note(run, cut_off(run, to_api_error(error, request_id=run.latest.id)))  # type: ignore[arg-type]
        elif run.end is None:
            problem = RuntimeError("the events of a response stopped before its end")
            self._note(run, cut_off(run, to_api_error(problem, request_id=run.latest.id)))
        kept = run.kept
        whole = replace(kept, events=run.recording.packed() if run.is_recorded else b"")
        try:
            if not await self._store.put(whole, run.earlier) and not await self._store.put(kept, run.earlier):
                logger.warning("response %s has no room in the store and is gone", run.latest.id)
        finally:
            del self._runs[run.owner, run.latest.id]
            run.show()


def cut_off(
    run: BackgroundRun, error: ApiError | None
) -> schemas.ResponseIncompleteEvent | schemas.ResponseFailedEvent:
    """The last event of a run that did not come to its own end: cancelled, or failed with an error."""
    number = len(run.recording)
    told = {"output": run.done_items, "completed_at": None, "usage": None}
    if error is None:
        cancelled = run.latest.model_copy(update={**told, "status": "cancelled"})
        return schemas.ResponseIncompleteEvent(type="response.incomplete", sequence_number=number, response=cancelled)
    problem = schemas.ResponseError(code=error.code if error.status < 500 else "server_error", message=error.message)
    failed = run.latest.model_copy(update={**told, "status": "failed", "error": problem})
    return schemas.ResponseFailedEvent(type="response.failed", sequence_number=number, response=failed)
