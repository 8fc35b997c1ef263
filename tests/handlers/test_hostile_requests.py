"""Whatever is sent, the answer is documented, small, in the envelope, and says nothing of the machine."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import jsonschema
import pytest
from fake_engine import FakeEngine, app_over, client_of
from fake_pooling import FakePooling
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specserve.generated import document, schemas
from specserve.generated.errors import ERRORS
from specserve.generated.operations import OPERATIONS, Operation
from specserve.handlers.envelopes import FORMS, MESSAGES, OPENAI
from specserve.handlers.limits import Limits

COMPONENTS = json.loads(document())["components"]
ENVELOPES = {
    envelope: jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{envelope}ErrorResponse", "components": COMPONENTS}
    )
    for envelope in FORMS
}
EVERY_TASK = {"tasks": ("embed", "classify", "token_embed", "token_classify"), "labels": ("yes",)}
INSIDES = re.compile(r"Traceback|site-packages|\.py\b|<class|object at 0x|NoneType|pydantic|/models/fake|0x[0-9a-f]{6}")
LONG = st.sampled_from(["\U0001f468\u200d" * 20_000, "\x00" * 9000, '"\\' * 5000, "a" * 100_000, "\u2028" * 5000])
TEXT = st.text(max_size=30) | LONG
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=8) | LONG, inner, max_size=6),
    max_leaves=20,
)
ROLES = st.sampled_from(["user", "assistant", "system", "tool", "developer", "function", "boss"])
TURNS = st.lists(
    st.fixed_dictionaries({"role": ROLES, "content": TEXT | VALUES}, optional={"tool_calls": VALUES, "name": TEXT}),
    max_size=4,
)
INPUT = TEXT | st.lists(TEXT, max_size=4) | st.lists(st.integers(-1, 300), max_size=9) | VALUES
SOUND: dict[Any, Any] = {
    schemas.ChatCompletionRequest: {"messages": TURNS, "max_completion_tokens": st.integers(-1, 9) | VALUES},
    schemas.CompletionRequest: {"prompt": TEXT | st.lists(st.integers(-1, 5000), max_size=9) | VALUES},
    schemas.TokenizeRequest: {"prompt": TEXT | VALUES},
    schemas.DetokenizeRequest: {"tokens": st.lists(st.integers(-1, 5000), max_size=9) | VALUES},
    schemas.ResponseRequest: {"input": TEXT | TURNS | VALUES, "max_output_tokens": st.integers(-1, 9) | VALUES},
    schemas.InputTokensRequest: {"input": TEXT | TURNS | VALUES},
    schemas.MessagesRequest: {"messages": TURNS, "max_tokens": st.integers(-1, 9) | VALUES},
    schemas.CountTokensRequest: {"messages": TURNS},
    schemas.EmbeddingRequest: {"input": INPUT},
    schemas.PoolingRequest: {"input": INPUT},
    schemas.ClassifyRequest: {"input": INPUT},
    schemas.LoadAdapterRequest: {"lora_name": TEXT | VALUES, "lora_path": TEXT | VALUES},
    schemas.UnloadAdapterRequest: {"lora_name": TEXT | VALUES},
    schemas.ScoreRequest: {"text_1": TEXT | VALUES, "text_2": TEXT | VALUES},
    schemas.RerankRequest: {"query": TEXT | VALUES, "documents": st.lists(TEXT | VALUES, max_size=4) | VALUES},
    schemas.CohereEmbedRequest: {"texts": st.lists(TEXT, max_size=4) | VALUES},
}
POOLING = {"embeddings", "pooling", "classify", "score", "rerank", "cohere"}
TAKING = [operation for operation in OPERATIONS.values() if operation.body is not None]


def check(status: int, content: bytes, sent: str, envelope: str = OPENAI) -> None:
    if status < 400:
        return
    assert len(content) < 8192
    told = json.loads(content)
    ENVELOPES[envelope].validate(told)
    error = told["error"]
    known = ERRORS[error["code"]]
    assert status == known.status
    assert envelope == MESSAGES or error["type"] == known.type
    assert known.names_field == "sometimes" or (error["param"] is None) == (known.names_field == "never")
    assert all(found[0] in sent for found in INSIDES.finditer(error["message"])), error["message"]


@pytest.mark.parametrize("operation", TAKING, ids=lambda operation: operation.id)
def test_hostile_bodies(operation: Operation) -> None:
    assert operation.body is not None
    engine: Any = FakePooling(EVERY_TASK) if operation.tag in POOLING else FakeEngine()
    app = app_over(engine, limits=Limits(max_choices=4))
    names = sorted(operation.body.model_fields)
    bodies = st.builds(
        lambda sound, more, stream: sound | more | ({"stream": True} if stream and operation.events else {}),
        st.fixed_dictionaries(SOUND[operation.body]),
        st.dictionaries(st.sampled_from(names) | st.text(max_size=9), VALUES, max_size=3),
        st.booleans(),
    )

    async def ask(content: bytes) -> tuple[int, bytes]:
        async with client_of(app) as client:
            reply = await client.post(operation.path, content=content, headers={"Content-Type": "application/json"})
        assert reply.status_code in operation.statuses - {500}
        return reply.status_code, reply.content

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(bodies)
    def send(body: dict[str, Any]) -> None:
        text = json.dumps(body)
        status, content = asyncio.run(ask(text.encode()))
        check(status, content, json.dumps(body, ensure_ascii=False), operation.errors)

    send()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["GET", "POST", "DELETE", "PUT"]), st.text(max_size=40) | LONG.map(lambda text: text[:2000]))
def test_hostile_paths_and_model_names(method: str, name: str) -> None:
    async def ask(path: str) -> tuple[int, bytes]:
        async with client_of(app_over(FakeEngine())) as client:
            reply = await client.request(method, f"http://server{path}")
        return reply.status_code, reply.content

    quoted = "".join(f"%{byte:02x}" for byte in name.encode("utf-8", "replace"))
    for path in (f"/v1/models/{quoted}", f"/{quoted}"):
        status, content = asyncio.run(ask(path))
        assert status != 500
        check(status, content, name)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_bytes_that_are_no_body(content: bytes) -> None:
    async def ask() -> tuple[int, bytes]:
        async with client_of(app_over(FakeEngine())) as client:
            reply = await client.post("/v1/completions", content=content, headers={"Content-Type": "application/json"})
        return reply.status_code, reply.content

    status, answer = asyncio.run(ask())
    assert status in (200, 400, 413)
    check(status, answer, content.decode("latin-1"))
