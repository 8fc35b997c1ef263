"""Where text is worked on."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import pytest
from fake_engine import FakeEngine, app_over, client_of

from specserve.engine.api import Tokenizer
from specserve.generated.errors import ContextLengthExceeded
from specserve.handlers.context import RequestContext, RequestIdentity
from specserve.handlers.text_work import SHORT_BYTES, check_text_length, text_work


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


class Longest:
    """All that is asked of a tokenizer."""

    def __init__(self, max_token_chars: int | None) -> None:
        self.max_token_chars = max_token_chars


def check(num_chars: int, longest: int | None) -> None:
    tokenizer = cast(Tokenizer, Longest(longest))
    check_text_length("x" * num_chars, tokenizer, FakeEngine(max_model_len=256).model, param="prompt")


@pytest.mark.parametrize(("num_chars", "longest"), [(0, 4), (1024, 4), (9999, None)])
def test_a_text_that_may_fit_is_not_refused_for_its_length(num_chars: int, longest: int | None) -> None:
    check(num_chars, longest)


def test_a_text_that_cannot_fit_is_refused_with_its_numbers() -> None:
    with pytest.raises(ContextLengthExceeded, match="1025 characters, which are at least 257 tokens") as caught:
        check(1025, 4)
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"prompt": "hello " * 2000}, "prompt"),
        ("/v1/completions", {"prompt": ["hello", "hello " * 2000]}, "prompt"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello " * 2000}]}, "messages"),
    ],
)
async def test_a_much_too_long_prompt_is_refused_with_its_length(path: str, body: dict[str, Any], param: str) -> None:
    async with client_of(app_over(FakeEngine(max_model_len=256))) as client:
        reply = await client.post(path, json=body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", param)
    assert "characters" in error["message"]


async def test_a_much_too_long_prompt_may_be_cut() -> None:
    body = {"prompt": "hello " * 2000, "truncate_prompt_tokens": 10, "max_tokens": 1}
    async with client_of(app_over(FakeEngine(max_model_len=256))) as client:
        reply = await client.post("/v1/completions", json=body)
    assert reply.json()["usage"]["prompt_tokens"] == 10
