"""Which of several models answers: by name, by what it can do, and what is said when none or many could."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
from fake_engine import Condition, FakeEngine, client_of
from fake_pooling import classifier, cross_encoder, embedder
from fastapi import FastAPI

from specserve.engine.api import Engine, ModelInfo
from specserve.engine.errors import EngineDeadError
from specserve.handlers.app import assemble
from specserve.handlers.limits import Limits
from specserve.handlers.model_directory import ModelDirectory, Source

CHAT = {"messages": [{"role": "user", "content": "Hello"}]}
TEXTS = {"query": "one two", "documents": ["one", "two three"]}
BY_PATH: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", CHAT, "chat"),
    ("/v1/completions", {"prompt": "one"}, "chat"),
    ("/v1/responses", {"input": "one"}, "chat"),
    ("/v1/messages", CHAT | {"max_tokens": 5}, "chat"),
    ("/v1/embeddings", {"input": "one"}, "embed"),
    ("/pooling", {"input": "one", "task": "embed"}, "embed"),
    ("/v1/rerank", TEXTS, "rerank"),
    ("/score", {"text_1": "one", "text_2": "two"}, "rerank"),
    ("/classify", {"input": "one"}, "rerank"),
]


class DeadEngine(FakeEngine):
    def check_health(self) -> None:
        raise EngineDeadError("the engine process was ended by SIGKILL")


def three() -> dict[str, Engine]:
    return {"chat": FakeEngine(), "embed": embedder(), "rerank": cross_encoder()}


async def ask(
    engines: Mapping[str, Engine | None],
    path: str,
    body: dict[str, Any] | None = None,
    failures: Mapping[str, str] | None = None,
) -> httpx2.Response:
    def source(name: str) -> Source:
        return Source([name, f"{name}-2"], lambda: engines[name], failure=lambda: (failures or {}).get(name))

    directory = ModelDirectory(*(source(name) for name in engines))
    first = next(engine for engine in engines.values() if engine is not None)
    app = assemble(directory=directory, engine=lambda: first, readiness=Condition())
    async with client_of(app) as client:
        return await client.get(path) if body is None else await client.post(path, json=body)


@pytest.mark.parametrize(("path", "body", "name"), BY_PATH)
async def test_without_a_name_the_one_model_that_can_do_it_answers(path: str, body: dict[str, Any], name: str) -> None:
    reply = await ask(three(), path, body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["model"] == name
    named = await ask(three(), path, body | {"model": f"{name}-2"})
    assert named.json()["model"] == name


@pytest.mark.parametrize(("path", "body", "name"), BY_PATH)
async def test_a_model_of_another_kind_is_refused_with_the_name_of_the_right_one(
    path: str, body: dict[str, Any], name: str
) -> None:
    wrong = "embed" if name == "chat" else "chat"
    reply = await ask(three(), path, body | {"model": wrong})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error.get("code", "unsupported_task") == "unsupported_task"
    assert f"send model: {'embed or rerank' if name == 'rerank' and path != '/classify' else name}" in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "engines", "meant"),
    [
        ("/v1/embeddings", {"input": "one"}, {"a": embedder(), "b": embedder(), "c": classifier()}, "a, b"),
        ("/v1/chat/completions", CHAT, {"a": FakeEngine(), "b": FakeEngine(), "c": embedder()}, "a, b"),
        ("/rerank", TEXTS, {"a": embedder(), "b": embedder(), "c": FakeEngine()}, "a, b"),
        ("/pooling", {"input": "one"}, {"a": embedder(), "b": embedder(), "c": FakeEngine()}, "a, b"),
        ("/tokenize", {"prompt": "one"}, {"a": FakeEngine(), "b": FakeEngine()}, "a, b"),
    ],
)
async def test_where_several_could_be_meant_they_are_named(
    path: str, body: dict[str, Any], engines: dict[str, Engine], meant: str
) -> None:
    reply = await ask(engines, path, body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "missing_required_parameter", "model")
    assert error["message"].endswith(f"could be meant: {meant}")


async def test_where_no_model_can_do_it_none_is_meant() -> None:
    reply = await ask({"a": embedder(), "b": embedder()}, "/classify", {"input": "one"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unsupported_task")


async def test_an_unknown_name_is_answered_with_those_of_all_models() -> None:
    reply = await ask(three(), "/v1/embeddings", {"input": "one", "model": "gpt"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
    assert "chat, chat-2, embed, embed-2, rerank, rerank-2" in reply.json()["error"]["message"]


async def test_all_models_are_listed_with_length_and_tasks() -> None:
    listed = (await ask(three(), "/v1/models")).json()["data"]
    assert [(one["id"], one["max_model_len"], one["tasks"]) for one in listed if "-2" not in one["id"]] == [
        ("chat", 256, ["generate"]),
        ("embed", 40, ["embed"]),
        ("rerank", 40, ["classify"]),
    ]
    assert all(one["root"] == "/models/fake" and one["owned_by"] for one in listed)


FAILURES = {"embed": "the engine process was ended by SIGKILL (/home/someone/models/x)"}


async def test_a_model_that_died_is_answered_for_with_503_and_its_reason_while_others_answer() -> None:
    reply = await ask(three(), "/v1/embeddings", {"input": "one"}, FAILURES)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (503, "engine_dead")
    assert "the model embed does not work: the engine process was ended by SIGKILL" in error["message"]
    assert "still served: chat, chat-2, rerank, rerank-2" in error["message"]
    assert "/home" not in error["message"]
    assert (await ask(three(), "/v1/chat/completions", CHAT, FAILURES)).status_code == 200
    assert (await ask(three(), "/v1/rerank", TEXTS, FAILURES)).json()["model"] == "rerank"


async def test_a_model_that_never_loaded_is_answered_for_with_its_reason_too() -> None:
    engines = {**three(), "embed": None}
    reply = await ask(engines, "/v1/embeddings", {"input": "one", "model": "embed"}, FAILURES)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_dead")
    unnamed = await ask(engines, "/v1/embeddings", {"input": "one"}, FAILURES)
    assert (unnamed.status_code, unnamed.json()["error"]["code"]) == (400, "unsupported_task")
    assert "embed is failed" in unnamed.json()["error"]["message"]


async def test_models_that_do_not_work_are_not_listed() -> None:
    listed = (await ask(three(), "/v1/models", failures=FAILURES)).json()["data"]
    assert [one["id"] for one in listed] == ["chat", "chat-2", "rerank", "rerank-2"]
    assert (await ask(three(), "/v1/models/embed", failures=FAILURES)).status_code == 404
    assert (await ask(three(), "/v1/models/rerank", failures=FAILURES)).status_code == 200


async def test_health_is_that_of_a_server_with_one_model_that_works_and_tells_of_each() -> None:
    healthy = await ask(three(), "/health", failures=FAILURES)
    assert (healthy.status_code, healthy.content) == (200, b"")
    assert healthy.headers["x-model-states"] == "chat=ready, embed=failed, rerank=ready"
    assert (await ask({"a": DeadEngine(), "b": DeadEngine()}, "/health")).status_code == 503
    alone = await ask({"a": FakeEngine()}, "/health")
    assert "x-model-states" not in alone.headers


class Waiting:
    """A model that is there in one turn of the event loop after it was asked for. Implements `OnDemand`."""

    stage = "not_started"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.engine: Engine | None = None
        self.num_starts = 0
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def preview(self) -> ModelInfo:
        return self._engine.model

    async def start(self) -> None:
        self.num_starts += 1
        await self.gate.wait()
        self.engine = self._engine


def waiting_app(waiting: Mapping[str, Waiting], limits: Limits | None = None) -> FastAPI:
    chat = FakeEngine()
    directory = ModelDirectory(
        Source(["chat"], lambda: chat),
        *(Source([name], lambda one=one: one.engine, on_demand=lambda one=one: one) for name, one in waiting.items()),
    )
    return assemble(directory=directory, engine=lambda: chat, readiness=Condition(), limits=limits)


@pytest.mark.parametrize(("path", "body", "name"), BY_PATH)
async def test_the_first_request_for_a_model_starts_it_and_is_answered(
    path: str, body: dict[str, Any], name: str
) -> None:
    waiting = {"embed": Waiting(embedder()), "rerank": Waiting(cross_encoder())}
    async with client_of(waiting_app(waiting)) as client:
        for _ in range(2):
            reply = await client.post(path, json=body)
            assert (reply.status_code, reply.json()["model"]) == (200, name), reply.text
    assert {one: waiting[one].num_starts for one in waiting} == {one: int(one == name) for one in waiting}


async def test_a_model_is_listed_and_told_of_before_its_first_use() -> None:
    waiting = {"embed": Waiting(embedder())}
    async with client_of(waiting_app(waiting)) as client:
        listed = (await client.get("/v1/models")).json()["data"]
        assert [(one["id"], one["tasks"]) for one in listed] == [("chat", ["generate"]), ("embed", ["embed"])]
        assert (await client.get("/v1/models/embed")).json()["max_model_len"] == 40
        assert (await client.get("/health")).headers["x-model-states"] == "chat=ready, embed=not_started"
        wrong = await client.post("/v1/embeddings", json={"input": "one", "model": "chat"})
        assert "send model: embed" in wrong.json()["error"]["message"]
    assert waiting["embed"].num_starts == 0


async def test_who_waits_for_a_model_waits_no_longer_than_the_time_limit_allows() -> None:
    waiting = {"embed": Waiting(embedder())}
    waiting["embed"].gate.clear()
    async with client_of(waiting_app(waiting, Limits(request_timeout_s=0.05))) as client:
        late = await client.post("/v1/embeddings", json={"input": "one"})
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert (await client.post("/v1/completions", json={"prompt": "one"})).status_code == 200
