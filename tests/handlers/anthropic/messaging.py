"""Messages over an engine that says what it is told; a stream is put together as a client does it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
from fake_engine import FakeEngine, app_over, client_of
from pydantic_core import from_json

from specserve.engine.api import GenerationRequest

PATH = "/v1/messages"
HELLO: dict[str, Any] = {"max_tokens": 200, "messages": [{"role": "user", "content": "hello"}]}
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "Weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
THINK: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
Answer = str | Callable[[GenerationRequest], str]


def engine_of(answer: Answer, **options: Any) -> FakeEngine:
    options.setdefault("max_model_len", 800)
    return FakeEngine(answer if callable(answer) else lambda request: answer, **options)


async def post(engine: FakeEngine, body: dict[str, Any], path: str = PATH, **options: Any) -> httpx2.Response:
    headers = options.pop("headers", {})
    async with client_of(app_over(engine, **options)) as client:
        return await client.post(path, json=body, headers=headers)


async def ask(engine: FakeEngine, body: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The whole message, after checking that the streamed one adds up to the same."""
    reply = await post(engine, body, **options)
    assert reply.status_code == 200, reply.text
    whole: dict[str, Any] = reply.json()
    streamed = await post(engine, body | {"stream": True}, **options)
    assert streamed.status_code == 200, streamed.text
    assert comparable(folded(streamed.text)) == comparable(whole)
    return whole


def events_of(stream: str) -> list[dict[str, Any]]:
    return [json.loads(frame.partition("\ndata: ")[2]) for frame in stream.split("\n\n") if frame.startswith("event:")]


def folded(stream: str) -> dict[str, Any]:
    """The message of a stream."""
    message: dict[str, Any] = {}
    inputs: dict[int, str] = {}
    for event in events_of(stream):
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                message["content"].append(event["content_block"])
            case "content_block_delta":
                block, delta = message["content"][event["index"]], event["delta"]
                if delta["type"] == "input_json_delta":
                    inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
                    block["input"] = from_json(inputs[event["index"]], allow_partial=True)
                else:
                    name = delta["type"].removesuffix("_delta")
                    block[name] += delta[name]
            case "message_delta":
                message |= event["delta"]
                message["usage"] |= event["usage"]
    return message


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """Ids of messages and calls are random."""
    content = [{name: value for name, value in block.items() if name != "id"} for block in message["content"]]
    return {name: value for name, value in message.items() if name != "id"} | {"content": content}


async def refusal(body: dict[str, Any], engine: FakeEngine | None = None, **options: Any) -> tuple[int, str, str, str]:
    """Status, type, code and param."""
    reply = await post(engine or engine_of("no"), body, **options)
    told = reply.json()
    assert told["type"] == "error", reply.text
    assert told["request_id"] == reply.headers["request-id"]
    error = told["error"]
    assert error["message"]
    return reply.status_code, error["type"], error["code"], error["param"]
