"""Bodies that do not arrive end at their deadline or with the server; nothing else is taken for that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message

from specserve.generated.errors import RequestTooLarge
from specserve.handlers.open_bodies import ClientGone, OpenBodies

SCOPE: dict[str, Any] = {"headers": [(b"content-type", b"application/json; charset=utf-8")]}


def receiving(*pieces: bytes, ends: bool = True, then: str = "") -> Any:
    """A client that sends pieces one by one; without an end it says nothing more, or leaves."""
    waiting = list(pieces)

    async def receive() -> Message:
        await asyncio.sleep(0)
        if waiting:
            piece = waiting.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(waiting) or not ends}
        if then:
            return {"type": then}
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    return receive


async def test_only_the_late_ones_are_ended() -> None:
    bodies = OpenBodies(max_bytes=100, timeout_s=0.05)
    late = [asyncio.create_task(bodies.read(SCOPE, receiving(b"{", ends=False))) for _ in range(3)]
    assert await bodies.read(SCOPE, receiving(b"{", b'"a"', b":1}")) == b'{"a":1}'
    for outcome in await asyncio.gather(*late, return_exceptions=True):
        assert isinstance(outcome, TimeoutError)
    assert await bodies.read(SCOPE, receiving(b"{}")) == b"{}", "the next one is not affected"
    with pytest.raises(TimeoutError):
        await bodies.read(SCOPE, receiving(ends=False))


async def test_all_are_given_up_at_once() -> None:
    bodies = OpenBodies(max_bytes=100, timeout_s=60)
    open_ones = [asyncio.create_task(bodies.read(SCOPE, receiving(b"{", ends=False))) for _ in range(3)]
    await asyncio.sleep(0.01)
    bodies.give_up()
    bodies.give_up()
    outcomes = await asyncio.gather(*open_ones, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TimeoutError] * 3


async def test_who_is_cancelled_by_others_stays_cancelled() -> None:
    bodies = OpenBodies(max_bytes=100, timeout_s=60)
    for gives_up in (False, True):
        reading = asyncio.create_task(bodies.read(SCOPE, receiving(ends=False)))
        await asyncio.sleep(0.01)
        if gives_up:
            bodies.give_up()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_clients_that_leave_and_bodies_that_are_too_large_end_at_once() -> None:
    bodies = OpenBodies(max_bytes=5, timeout_s=60)
    with pytest.raises(ClientGone):
        await bodies.read(SCOPE, receiving(b"{", ends=False, then="http.disconnect"))
    with pytest.raises(RequestTooLarge):
        await bodies.read(SCOPE, receiving(b"{123", b"45"))
