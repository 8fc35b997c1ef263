"""Ask an application over a fake pooling engine."""

from __future__ import annotations

from typing import Any

import httpx2
from fake_engine import app_over, client_of
from fake_pooling import FakePooling


async def ask(engine: FakePooling, path: str, body: dict[str, Any], **options: Any) -> httpx2.Response:
    async with client_of(app_over(engine, **options)) as client:
        return await client.post(path, json=body)


async def answer(engine: FakePooling, path: str, body: dict[str, Any], **options: Any) -> dict[str, Any]:
    reply = await ask(engine, path, body, **options)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


async def refusal(engine: FakePooling, path: str, body: dict[str, Any], **options: Any) -> tuple[str, str, str]:
    """Code, param and message of a 400."""
    reply = await ask(engine, path, body, **options)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    return error["code"], error["param"], error["message"]
