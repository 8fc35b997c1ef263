"""Where text is worked on."""

from __future__ import annotations

import asyncio
import threading

import pytest

from specserve.handlers.context import RequestContext, RequestIdentity
from specserve.handlers.text_work import SHORT_BYTES, text_work


def context(num_body_bytes: int) -> RequestContext:
    return RequestContext(RequestIdentity("r", was_sent=False), num_body_bytes=num_body_bytes)


async def test_short_texts_stay_on_the_event_loop() -> None:
    assert await text_work(context(SHORT_BYTES), threading.get_ident) == threading.get_ident()


async def test_long_texts_let_the_event_loop_go_on() -> None:
    may_end = threading.Event()
    work = asyncio.ensure_future(text_work(context(SHORT_BYTES + 1), may_end.wait, timeout=10))
    await asyncio.sleep(0)
    may_end.set()
    assert await work, "the loop went on while the work waited for it"


@pytest.mark.parametrize("num_body_bytes", [0, SHORT_BYTES + 1])
async def test_a_refusal_comes_through(num_body_bytes: int) -> None:
    def refuse() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await text_work(context(num_body_bytes), refuse)
