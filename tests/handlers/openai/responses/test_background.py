"""Responses in the background run to their end whoever listens, and are told and kept however they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest

from specserve.engine.errors import EngineDeadError
from specserve.generated import schemas
from specserve.generated.errors import (
    ApiError,
    InvalidParameterCombination,
    InvalidResponseState,
    InvalidValue,
    RateLimitExceeded,
    ServerOverloaded,
)
from specserve.handlers.openai.responses.background import BackgroundResponses, BackgroundRun, StreamedEvent
from specserve.handlers.openai.responses.recording import Recording
from specserve.handlers.openai.responses.store import MemoryStore, StoredResponse, StoreLimits

ITEM: dict[str, Any] = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hi.", "annotations": [], "logprobs": []}],
}


def response(response_id: str = "resp_1", **fields: Any) -> schemas.Response:
    nothing = dict.fromkeys(
        "completed_at error incomplete_details instructions max_output_tokens max_tool_calls metadata reasoning "
        "previous_response_id prompt_cache_key safety_identifier service_tier usage user".split()
    )
    numbers = {"temperature": 0.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "top_logprobs": 0}
    plain = {
        "object": "response",
        "created_at": 7,
        "status": "queued",
        "background": True,
        "model": "fake",
        "store": True,
    }
    lists = {"output": [], "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
    rest = {"text": {"format": {"type": "text"}}, "truncation": "disabled"}
    return schemas.Response.model_validate(
        {"id": response_id, **nothing, **numbers, **plain, **lists, **rest, **fields}
    )


@dataclass
class Script:
    """Events as a response has them, which wait for `may_go_on` before their end."""

    response_id: str = "resp_1"
    error: Exception | None = None
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    was_closed: bool = False
    stops_early: bool = False

    async def events(self) -> AsyncGenerator[StreamedEvent, None]:
        made = {"response_id": self.response_id}
        queued, running = response(**made), response(**made, status="in_progress")
        try:
            yield schemas.ResponseCreatedEvent(type="response.created", sequence_number=0, response=queued)
            yield schemas.ResponseQueuedEvent(type="response.queued", sequence_number=1, response=queued)
            yield schemas.ResponseInProgressEvent(type="response.in_progress", sequence_number=2, response=running)
            item = schemas.OutputMessage.model_validate(ITEM)
            yield schemas.OutputItemDoneEvent(
                type="response.output_item.done", sequence_number=3, output_index=0, item=item
            )
            self.has_begun.set()
            await self.may_go_on.wait()
            if self.error is not None:
                raise self.error
            if not self.stops_early:
                done = response(**made, status="completed", output=[ITEM], completed_at=8)
                yield schemas.ResponseCompletedEvent(type="response.completed", sequence_number=4, response=done)
        finally:
            self.was_closed = True


class Scene:
    """A store, and responses in the background of it."""

    def __init__(self, limits: StoreLimits | None = None, **options: Any) -> None:
        self.store = MemoryStore(limits)
        self.waited_for: set[asyncio.Task[None]] = set()
        self.background = BackgroundResponses(self.store, self.waited_for.add, **options)

    async def start(self, script: Script, owner: str = "ann", is_recorded: bool = True) -> BackgroundRun:
        first = response(script.response_id)
        return await self.background.start(
            first, script.events(), owner=owner, input_items=b"[]", is_recorded=is_recorded
        )

    async def kept(self, response_id: str = "resp_1", owner: str = "ann") -> StoredResponse:
        kept = await self.store.get(owner, response_id)
        assert kept is not None
        return kept


async def listened(run: BackgroundRun, after: int = -1) -> list[dict[str, Any]]:
    return [json.loads(event.json) async for event in run.follow(after)]


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["sequence_number"] for event in events]


async def test_it_runs_to_its_end_while_nobody_listens() -> None:
    scene, script = Scene(), Script()
    run = await scene.start(script)
    assert (await scene.kept()).status == "queued"
    await script.has_begun.wait()
    assert run.latest.status == "in_progress"
    script.may_go_on.set()
    await run.wait_end()
    kept = await scene.kept()
    assert (kept.status, json.loads(kept.response)["output"]) == ("completed", [ITEM])
    assert scene.background.find("ann", "resp_1") is None
    assert len(scene.background) == 0
    await asyncio.gather(*scene.waited_for)


async def test_those_who_listen_get_what_was_told_and_then_what_comes() -> None:
    scene, script = Scene(), Script()
    run = await scene.start(script)
    await script.has_begun.wait()
    early, late = asyncio.create_task(listened(run)), asyncio.create_task(listened(run, after=1))
    await asyncio.sleep(0)
    script.may_go_on.set()
    assert (numbers(await early), numbers(await late)) == ([0, 1, 2, 3, 4], [2, 3, 4])
    recorded = Recording.unpacked((await scene.kept()).events)
    assert [json.loads(event.json) for event in recorded.events(0)] == await early
    assert [event.event for event in recorded.events(4)] == ["response.completed"]


async def test_one_who_leaves_ends_nothing() -> None:
    scene, script = Scene(), Script()
    run = await scene.start(script)
    listening = asyncio.create_task(listened(run))
    await script.has_begun.wait()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    script.may_go_on.set()
    await run.wait_end()
    assert (await scene.kept()).status == "completed"


async def test_who_has_seen_the_last_event_finds_the_response_kept() -> None:
    scene, script = Scene(), Script()
    run = await scene.start(script)
    script.may_go_on.set()
    async for event in run.follow():
        if event.event == "response.completed":
            assert (await scene.kept()).status == "completed"


async def test_a_cancelled_one_closes_what_makes_it_and_keeps_the_items_that_were_done() -> None:
    scene, script = Scene(), Script()
    run = await scene.start(script)
    listening = asyncio.create_task(listened(run))
    await script.has_begun.wait()
    await scene.background.cancel(run)
    assert script.was_closed
    kept = await scene.kept()
    last = (await listening)[-1]
    assert (last["type"], last["sequence_number"]) == ("response.incomplete", 4)
    assert last["response"] == json.loads(kept.response)
    assert (kept.status, last["response"]["output"], last["response"]["error"]) == ("cancelled", [ITEM], None)


async def test_one_that_is_cancelled_before_its_first_event_is_cancelled() -> None:
    scene, script = Scene(), Script()
    run = await scene.start(script)
    await scene.background.cancel(run)
    assert (await scene.kept()).status == "cancelled"
    assert [event["type"] for event in await listened(run)] == ["response.incomplete"]


async def test_cancelling_what_has_just_ended_changes_nothing() -> None:
    scene, script = Scene(), Script()
    run = await scene.start(script)
    script.may_go_on.set()
    await run.wait_end()
    await scene.background.cancel(run)
    assert (await scene.kept()).status == "completed"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (Script(error=EngineDeadError("the engine process ended")), "the engine process ended"),
        (Script(error=RuntimeError("a secret")), "its log has the details"),
        (Script(stops_early=True), "its log has the details"),
    ],
    ids=["engine death", "bug", "no end"],
)
async def test_what_breaks_has_failed_and_says_so(script: Script, told: str) -> None:
    scene = Scene()
    run = await scene.start(script)
    script.may_go_on.set()
    events = await listened(run)
    kept = json.loads((await scene.kept()).response)
    assert (events[-1]["type"], events[-1]["response"]) == ("response.failed", kept)
    assert (kept["status"], kept["error"]["code"], kept["output"]) == ("failed", "server_error", [ITEM])
    assert told in kept["error"]["message"]
    assert "secret" not in kept["error"]["message"]


async def test_events_are_kept_only_where_they_may_be_asked_for() -> None:
    scene, script = Scene(), Script()
    script.may_go_on.set()
    run = await scene.start(script, is_recorded=False)
    await run.wait_end()
    assert (await scene.kept()).events == b""


async def refusal(scene: Scene, script: Script, owner: str = "ann") -> ApiError:
    with pytest.raises(ApiError) as refused:
        await scene.start(script, owner)
    return refused.value


async def test_more_than_the_server_runs_at_once_are_refused_until_one_has_ended() -> None:
    scene, script = Scene(max_at_once=1), Script()
    run = await scene.start(script)
    refused = await refusal(scene, Script("resp_2"), "bob")
    assert isinstance(refused, ServerOverloaded)
    assert refused.headers["Retry-After"]
    assert await scene.store.get("bob", "resp_2") is None
    script.may_go_on.set()
    await run.wait_end()
    await scene.start(Script("resp_2"), "bob")


async def test_one_owner_cannot_take_every_place() -> None:
    scene = Scene(max_per_owner=1)
    await scene.start(Script())
    assert isinstance(await refusal(scene, Script("resp_2")), RateLimitExceeded)
    await scene.start(Script("resp_2"), "bob")


async def test_an_id_that_is_under_way_is_not_taken_twice() -> None:
    scene = Scene()
    await scene.start(Script())
    refused = await refusal(scene, Script())
    assert isinstance(refused, InvalidResponseState)
    assert refused.param == "request_id"
    assert (await scene.kept()).status == "queued"
    await scene.start(Script(), owner="bob")


def test_what_is_not_stored_cannot_run_in_the_background() -> None:
    with pytest.raises(InvalidParameterCombination) as refused:
        Scene().background.check("ann", "resp_1", is_stored=False)
    assert refused.value.param == "background"


async def test_a_response_without_room_is_refused_and_leaves_nothing() -> None:
    scene = Scene(StoreLimits(entries=0))
    assert isinstance(await refusal(scene, Script()), InvalidValue)
    assert len(scene.background) == 0


async def test_a_recording_that_has_no_room_is_left_out_and_the_response_stays() -> None:
    script = Script()
    scene = Scene(StoreLimits(num_bytes=2 * len(response().model_dump_json())))
    script.may_go_on.set()
    run = await scene.start(script)
    await run.wait_end()
    kept = await scene.kept()
    assert (kept.status, kept.events) == ("completed", b"")
