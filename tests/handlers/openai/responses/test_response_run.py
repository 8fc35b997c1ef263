"""A response being made: closed whoever leaves, ended in order by errors, and kept before it is told of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from writing import writer

from specserve.engine.api import FinishReason
from specserve.engine.errors import OverloadedError
from specserve.generated import schemas
from specserve.handlers.chat.events import ChatEvent, ChatFinished, ContentDelta
from specserve.handlers.errors import to_api_error
from specserve.handlers.openai.responses import run as module
from specserve.handlers.openai.responses.run import Keeping, Run
from specserve.handlers.openai.responses.store import MemoryStore, StoreLimits


class Answer:
    """An engine's answer that waits where it is told to; knows whether it was closed."""

    def __init__(self, *, waits_at: int | None = None, fails_at: int | None = None) -> None:
        self.waits_at, self.fails_at = waits_at, fails_at
        self.is_closed = False

    async def events(self) -> AsyncGenerator[ChatEvent, None]:
        try:
            for at, word in enumerate(("a", "b", "c")):
                if at == self.waits_at:
                    await asyncio.Event().wait()
                if at == self.fails_at:
                    raise OverloadedError("the queue is full", retry_after_s=1)
                yield ContentDelta(index=0, text=word, token_ids=(at,), num_prompt_tokens=7)
            yield ChatFinished(index=0, reason=FinishReason.STOP)
        finally:
            self.is_closed = True


def run_of(answer: Answer, keeping: Keeping | None = None) -> Run:
    return Run(
        writer=writer(),
        answer=answer.events(),
        to_error=lambda error: to_api_error(error, request_id="r"),
        finish=lambda response: None,
        keeping=keeping,
    )


@pytest.mark.parametrize("waits_at", [0, 1])
@pytest.mark.parametrize("in_background", [False, True])
async def test_whoever_leaves_closes_the_answer(
    waits_at: int, in_background: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    answer = Answer(waits_at=waits_at)
    run = run_of(answer)
    seen: list[str] = []

    async def listen() -> None:
        stream = run.background_events() if in_background else run.events()
        try:
            async for event in stream:
                seen.append(event.type)
        finally:
            await stream.aclose()

    task = asyncio.create_task(listen())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert answer.is_closed
    assert "response.created" in seen
    assert "response.completed" not in seen


async def test_a_refusal_of_the_engine_comes_before_any_event() -> None:
    answer = Answer(fails_at=0)
    with pytest.raises(OverloadedError):
        await anext(run_of(answer).events())
    assert answer.is_closed


@pytest.mark.parametrize("fails_at", [1, 2])
async def test_a_later_error_is_the_end_of_the_stream(fails_at: int) -> None:
    events = [event async for event in run_of(Answer(fails_at=fails_at)).events()]
    last: Any = events[-1]
    assert last.type == "response.failed"
    assert last.response.output[0].content[0].text == "ab"[:fails_at]
    with pytest.raises(OverloadedError):
        await run_of(Answer(fails_at=fails_at)).whole()


async def test_in_the_background_every_error_is_the_end_of_the_stream() -> None:
    events = [event.type async for event in run_of(Answer(fails_at=0)).background_events()]
    assert events == ["response.created", "response.queued", "response.in_progress", "response.failed"]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_response_is_kept_before_it_is_told_of(is_streamed: bool) -> None:
    store = MemoryStore()
    run = run_of(Answer(), Keeping(store, "me", b"[]", ()))
    if is_streamed:
        async for event in run.events():
            kept = await store.get("me", "resp_1")
            assert (kept is not None) is isinstance(event, schemas.ResponseCompletedEvent)
    else:
        assert (await run.whole()).store is True
    kept = await store.get("me", "resp_1")
    assert kept is not None
    assert schemas.Response.model_validate_json(kept.response) == run.response


class BrokenStore(MemoryStore):
    async def put(self, *kept: Any) -> bool:
        raise OSError("disk full")


@pytest.mark.parametrize("store", [BrokenStore(), MemoryStore(StoreLimits(entries=0))])
async def test_what_could_not_be_kept_is_answered_and_says_so(store: MemoryStore) -> None:
    for is_streamed in (False, True):
        run = run_of(Answer(), Keeping(store, "me", b"[]", ()))
        if is_streamed:
            *_, last = [event async for event in run.events()]
            assert last.type == "response.completed"
            assert last.response.store is False
        else:
            assert (await run.whole()).store is False
