"""What can be done over HTTP with a response that was kept, by its owner and by nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from fake_engine import FakeEngine, app_over, client_of

from specserve.engine.api import GenerationOutput, GenerationRequest
from specserve.handlers.limits import Limits

PATH = "/v1/responses"
ANN, BOB = {"Authorization": "Bearer ann"}, {"Authorization": "Bearer bob"}
PARIS = "The capital of France is Paris."


@dataclass
class GatedEngine(FakeEngine):
    """Answers up to the second token, then waits for `gate`. `num_open` answers are neither complete nor aborted."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    num_open: int = 0

    async def _outputs(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]:
        self.num_open += 1
        try:
            async for number, output in numbered(super()._outputs(request)):
                yield output
                if number == 1:
                    self.has_begun.set()
                    await self.gate.wait()
        finally:
            self.num_open -= 1


async def numbered(outputs: AsyncGenerator[GenerationOutput, None]) -> AsyncIterator[tuple[int, GenerationOutput]]:
    number = 0
    async for output in outputs:
        yield number, output
        number += 1


@asynccontextmanager
async def serving(engine: FakeEngine | None = None, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of ann's, over a server that knows bob too."""
    app = app_over(engine or FakeEngine(), api_keys=("ann", "bob"), **options)
    async with client_of(app) as client:
        client.headers.update(ANN)
        yield client


async def made(client: httpx2.AsyncClient, **body: Any) -> dict[str, Any]:
    reply = await client.post(PATH, json={"input": "hello", **body})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def refusal(reply: httpx2.Response) -> tuple[int, str, str | None]:
    error = reply.json()["error"]
    return reply.status_code, error["code"], error["param"]


def events_of(reply: httpx2.Response) -> list[dict[str, Any]]:
    assert reply.status_code == 200, reply.text
    return [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]


UNDER_WAY = ("queued", "in_progress")


async def ended(client: httpx2.AsyncClient, response_id: str, before: Container[str] = UNDER_WAY) -> dict[str, Any]:
    """The response once it is past the states `before`."""
    while True:
        found: dict[str, Any] = (await client.get(f"{PATH}/{response_id}")).json()
        if found["status"] not in before:
            return found
        await asyncio.sleep(0)


async def test_a_response_is_shown_again_as_it_was_answered() -> None:
    async with serving() as client:
        schema = {"type": "object", "properties": {}}
        response = await made(client, text={"format": {"type": "json_schema", "name": "any", "schema": schema}})
        assert response["text"]["format"]["schema"] == schema
        assert (await client.get(f"{PATH}/{response['id']}")).json() == response


async def test_the_last_event_of_a_stream_is_what_is_shown_afterwards() -> None:
    async with serving() as client:
        events = events_of(await client.post(PATH, json={"input": "hello", "stream": True}))
        last = events[-1]["response"]
        assert (await client.get(f"{PATH}/{last['id']}")).json() == last


async def test_what_is_not_to_be_stored_is_not() -> None:
    async with serving() as client:
        response = await made(client, store=False)
        reply = await client.get(f"{PATH}/{response['id']}")
        assert refusal(reply) == (404, "response_not_found", "response_id")


@pytest.mark.parametrize("background", [False, True])
async def test_to_another_key_a_response_does_not_exist(background: bool) -> None:
    engine = GatedEngine()
    async with serving(engine) as client:
        if not background:
            engine.gate.set()
        response_id = (await made(client, background=background))["id"]
        for method, path in [
            ("GET", ""),
            ("GET", "?stream=true"),
            ("POST", "/cancel"),
            ("GET", "/input_items"),
            ("DELETE", ""),
        ]:
            theirs = await client.request(method, f"{PATH}/{response_id}{path}", headers=BOB)
            nobody = await client.request(method, f"{PATH}/resp_0{path}")
            assert refusal(theirs) == refusal(nobody) == (404, "response_not_found", "response_id")
            shown = [reply.text.replace(response_id, "") for reply in (theirs,)]
            assert shown == [nobody.text.replace("resp_0", "")]
        continued = {"input": "more", "previous_response_id": response_id}
        reply = await client.post(PATH, json=continued, headers=BOB)
        assert refusal(reply) == (404, "response_not_found", "previous_response_id")
        assert (await client.get(f"{PATH}/{response_id}")).status_code == 200


async def test_a_background_response_is_queued_then_in_progress_then_completed() -> None:
    engine = GatedEngine()
    async with serving(engine) as client:
        response = await made(client, background=True)
        assert (response["status"], response["output"], response["background"]) == ("queued", [], True)
        await engine.has_begun.wait()
        shown = await ended(client, response["id"], ("queued",))
        assert (shown["status"], shown["completed_at"]) == ("in_progress", None)
        engine.gate.set()
        done = await ended(client, response["id"])
        assert (done["status"], done["output"][0]["content"][0]["text"]) == ("completed", PARIS)
        assert done["usage"]["output_tokens"] > 0


async def test_a_background_response_cut_by_length_is_incomplete() -> None:
    async with serving() as client:
        done = await ended(client, (await made(client, background=True, max_output_tokens=2))["id"])
        assert (done["status"], done["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


async def test_events_come_again_from_any_number_on_while_it_runs_and_afterwards() -> None:
    engine = GatedEngine()
    async with serving(engine) as client:
        body = {"input": "hello", "background": True, "stream": True, "request_id": "resp_mine"}
        creating = asyncio.create_task(client.post(PATH, json=body))
        await engine.has_begun.wait()
        live = asyncio.create_task(client.get(f"{PATH}/resp_mine?stream=true&starting_after=1"))
        await asyncio.sleep(0)
        engine.gate.set()
        events = events_of(await creating)
        assert [event["type"] for event in events[:3]] == [
            "response.created",
            "response.queued",
            "response.in_progress",
        ]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert events_of(await live) == events[2:]
        for after in (-1, 0, len(events) - 2, len(events) - 1, len(events) + 5):
            query = "" if after < 0 else f"&starting_after={after}"
            replayed = await client.get(f"{PATH}/resp_mine?stream=true{query}")
            assert events_of(replayed) == events[after + 1 :]
        assert (await client.get(f"{PATH}/resp_mine")).json() == events[-1]["response"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("starting_after=0", "starting_after"),
        ("stream=true&starting_after=-1", "starting_after"),
        ("stream=true&starting_after=x", "starting_after"),
        ("stream=maybe", "stream"),
        ("include=everything", "include"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused_by_name(query: str, param: str) -> None:
    async with serving() as client:
        reply = await client.get(f"{PATH}/{(await made(client))['id']}?{query}")
        assert reply.status_code == 400
        assert reply.json()["error"]["param"].startswith(param)


@pytest.mark.parametrize("body", [{}, {"background": True}, {"stream": True}])
async def test_events_that_were_not_kept_cannot_come_again(body: dict[str, Any]) -> None:
    async with serving() as client:
        reply = await client.post(PATH, json={"input": "hello", "request_id": "resp_mine", **body})
        assert reply.status_code == 200
        await ended(client, "resp_mine")
        assert refusal(await client.get(f"{PATH}/resp_mine?stream=true")) == (400, "invalid_response_state", "stream")


async def test_include_is_taken() -> None:
    async with serving() as client:
        response = await made(client, include=["message.output_text.logprobs"])
        query = "include=message.output_text.logprobs&include=reasoning.encrypted_content"
        assert (await client.get(f"{PATH}/{response['id']}?{query}")).json() == response


async def test_cancelling_aborts_in_the_engine_and_may_be_repeated() -> None:
    engine = GatedEngine()
    async with serving(engine) as client:
        response_id = (await made(client, background=True))["id"]
        await engine.has_begun.wait()
        cancelled = (await client.post(f"{PATH}/{response_id}/cancel")).json()
        assert (cancelled["status"], engine.num_open) == ("cancelled", 0)
        assert (await client.post(f"{PATH}/{response_id}/cancel")).json() == cancelled
        assert (await client.get(f"{PATH}/{response_id}")).json() == cancelled


@pytest.mark.parametrize(
    ("background", "told"), [(False, "was not made in the background"), (True, "is completed already")]
)
async def test_what_has_ended_cannot_be_cancelled(background: bool, told: str) -> None:
    async with serving() as client:
        response_id = (await made(client, background=background))["id"]
        await ended(client, response_id)
        reply = await client.post(f"{PATH}/{response_id}/cancel")
        assert refusal(reply) == (400, "invalid_response_state", "response_id")
        assert told in reply.json()["error"]["message"]


@pytest.mark.parametrize("is_running", [False, True])
async def test_a_deleted_response_is_gone_and_no_longer_made(is_running: bool) -> None:
    engine = GatedEngine()
    async with serving(engine) as client:
        response_id = (await made(client, background=True))["id"]
        await engine.has_begun.wait()
        if not is_running:
            engine.gate.set()
            await ended(client, response_id)
        deleted = await client.delete(f"{PATH}/{response_id}")
        assert deleted.json() == {"id": response_id, "object": "response", "deleted": True}
        assert engine.num_open == 0
        for method in ("GET", "DELETE"):
            reply = await client.request(method, f"{PATH}/{response_id}")
            assert refusal(reply) == (404, "response_not_found", "response_id")


async def test_an_engine_that_dies_fails_what_is_made_in_the_background() -> None:
    async with serving(FakeEngine(dies_after=2)) as client:
        done = await ended(client, (await made(client, background=True))["id"])
        assert (done["status"], done["error"]["code"]) == ("failed", "server_error")


async def test_background_without_store_is_refused() -> None:
    async with serving() as client:
        reply = await client.post(PATH, json={"input": "hello", "background": True, "store": False})
        assert refusal(reply) == (400, "invalid_parameter_combination", "background")


async def test_no_more_run_in_the_background_than_the_server_allows() -> None:
    engine = GatedEngine()
    async with serving(engine, max_background=1) as client:
        first = await made(client, background=True)
        reply = await client.post(PATH, json={"input": "hello", "background": True})
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "server_overloaded")
        assert int(reply.headers["retry-after"]) > 0
        engine.gate.set()
        await made(client)
        await ended(client, first["id"])
        await made(client, background=True)


async def test_one_client_gets_no_more_in_the_background_than_its_share() -> None:
    engine = GatedEngine()
    async with serving(engine, limits=Limits(max_open_per_client=1)) as client:
        await made(client, background=True)
        reply = await client.post(PATH, json={"input": "hello", "background": True})
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert (await client.post(PATH, json={"input": "hello", "background": True}, headers=BOB)).status_code == 200


TURNS = ["one", "two", "three", "four"]


async def conversation(client: httpx2.AsyncClient) -> str:
    """Four turns; the id of the last response."""
    previous = None
    for text in TURNS:
        previous = (await made(client, input=text, previous_response_id=previous))["id"]
    assert previous is not None
    return previous


def texts(items: list[dict[str, Any]]) -> list[str]:
    return [item["content"][0]["text"] for item in items]


async def test_input_items_are_what_the_model_was_given() -> None:
    async with serving() as client:
        response_id = await conversation(client)
        listed = (await client.get(f"{PATH}/{response_id}/input_items?order=asc")).json()
        assert texts(listed["data"]) == ["one", PARIS, "two", PARIS, "three", PARIS, "four"]
        assert [item["role"] for item in listed["data"][:2]] == ["user", "assistant"]
        assert len({item["id"] for item in listed["data"]}) == len(listed["data"])
        assert (listed["first_id"], listed["last_id"]) == (listed["data"][0]["id"], listed["data"][-1]["id"])
        newest = (await client.get(f"{PATH}/{response_id}/input_items")).json()
        assert newest["data"] == listed["data"][::-1]
        assert newest["has_more"] is False


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 7, 100])
async def test_pages_of_any_size_make_the_whole_list(order: str, limit: int) -> None:
    async with serving() as client:
        path = f"{PATH}/{await conversation(client)}/input_items?order={order}"
        whole = (await client.get(path)).json()["data"]
        found: list[Any] = []
        more = True
        while more:
            after = f"&after={found[-1]['id']}" if found else ""
            page = (await client.get(f"{path}&limit={limit}{after}")).json()
            assert 0 < len(page["data"]) <= limit
            found += page["data"]
            more = page["has_more"]
        assert found == whole


@pytest.mark.parametrize(
    ("query", "param"), [("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("after=msg_0", "after")]
)
async def test_a_page_that_cannot_be_is_refused_by_name(query: str, param: str) -> None:
    async with serving() as client:
        reply = await client.get(f"{PATH}/{(await made(client))['id']}/input_items?{query}")
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == param


async def test_a_conversation_goes_on_when_its_beginning_was_deleted() -> None:
    async with serving() as client:
        first = await made(client, input="one")
        second = await made(client, input="two", previous_response_id=first["id"])
        await client.delete(f"{PATH}/{first['id']}")
        third = await made(client, input="three", previous_response_id=second["id"])
        listed = (await client.get(f"{PATH}/{third['id']}/input_items?order=asc")).json()
        assert texts(listed["data"]) == ["one", PARIS, "two", PARIS, "three"]


async def test_what_is_still_being_made_cannot_be_continued() -> None:
    engine = GatedEngine()
    async with serving(engine) as client:
        response_id = (await made(client, background=True))["id"]
        reply = await client.post(PATH, json={"input": "more", "previous_response_id": response_id})
        assert refusal(reply) == (400, "invalid_response_state", "previous_response_id")
