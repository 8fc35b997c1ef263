"""Everything around the operations: keys, states, unknown paths, ids, the published document."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator

import httpx2
import pytest
from fake_engine import Condition, FakeEngine, app_over, client_of
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from specserve.engine.errors import EngineDeadError, OverloadedError, PromptTooLongError
from specserve.generated import document
from specserve.generated.operations import OPERATIONS
from specserve.handlers.app import Application
from specserve.handlers.auth import GUARDED_PREFIXES
from specserve.handlers.lifecycle import Lifecycle
from specserve.handlers.limits import Limits
from specserve.handlers.routing import routable

HELLO = {"messages": [{"role": "user", "content": "hello"}]}
CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    "header",
    [None, "Bearer wrong", "Bearer ", "Bearer", "Basic key-1", "key-1", "Bearer key-1x", "Bearer key"],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/v1x", "/v2/anything"])
async def test_without_a_key_of_the_server_guarded_paths_say_401(path: str, header: str | None) -> None:
    async with client_of(app_over(FakeEngine(), api_keys=("key-1", "key-2"))) as client:
        reply = await client.get(path, headers={"Authorization": header} if header is not None else {})
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.json()["error"]["code"] == "invalid_api_key"
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("header", ["Bearer key-1", "bearer key-2", "BEARER  key-2"])
async def test_any_of_several_keys_opens(header: str) -> None:
    async with client_of(app_over(FakeEngine(), api_keys=("key-1", "key-2"))) as client:
        assert (await client.get("/v1/models", headers={"Authorization": header})).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "key-2"}, 200),
        ({"X-Api-Key": " key-1 "}, 200),
        ({"x-api-key": "placeholder", "Authorization": "Bearer key-1"}, 200),
        ({"x-api-key": "key-1", "Authorization": "Bearer placeholder"}, 200),
        ({"x-api-key": "key-1x"}, 401),
        ({"x-api-key": "Bearer key-1"}, 401),
    ],
)
async def test_a_key_may_also_come_as_x_api_key(headers: dict[str, str], status: int) -> None:
    async with client_of(app_over(FakeEngine(), api_keys=("key-1", "key-2"))) as client:
        assert (await client.get("/v1/models", headers=headers)).status_code == status


async def test_health_version_documents_and_preflights_need_no_key() -> None:
    async with client_of(app_over(FakeEngine(), api_keys=("key",))) as client:
        for path in ("/health", "/version", "/openapi.json", "/docs"):
            assert (await client.get(path)).status_code == 200
        assert (await client.options(CHAT)).status_code == 405


def test_the_contract_asks_for_a_key_exactly_where_one_is_needed() -> None:
    paths = json.loads(document())["paths"]
    for operation in OPERATIONS.values():
        needs_key = paths[operation.path][operation.method.lower()].get("security") != []
        assert needs_key == operation.path.startswith(GUARDED_PREFIXES)


async def test_the_published_document_is_the_generated_one() -> None:
    generated = json.loads(document())
    async with client_of(app_over(FakeEngine(), api_keys=("key",))) as client:
        assert (await client.get("/openapi.json")).json() == generated
    async with client_of(app_over(FakeEngine())) as client:
        open_document = (await client.get("/openapi.json")).json()
    assert "security" not in open_document
    assert open_document["paths"].keys() == generated["paths"].keys()
    assert open_document["components"]["schemas"] == generated["components"]["schemas"]


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/v1/chat/completions", CHAT),
        ("/chat/completions", CHAT),
        ("/v1/chat/completions/", CHAT),
        ("/V1/Models", "/v1/models"),
        ("/v1/health", "/health"),
        ("/v1/chat/completion", CHAT),
    ],
)
async def test_an_unknown_path_leads_to_the_one_that_was_meant(path: str, meant: str) -> None:
    async with client_of(app_over(FakeEngine())) as client:
        reply = await client.post(path, json=HELLO)
    assert reply.status_code == 404
    error = reply.json()["error"]
    assert error["code"] == "unknown_url"
    assert f"did you mean {meant}?" in error["message"]


async def test_a_wrong_method_names_the_right_one() -> None:
    async with client_of(app_over(FakeEngine())) as client:
        reply = await client.get(CHAT)
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    assert reply.json()["error"]["code"] == "method_not_allowed"


async def test_while_loading_only_what_needs_no_model_answers() -> None:
    loading = Condition("loading", "reading weights", 0.4)
    async with client_of(app_over(FakeEngine(), readiness=loading)) as client:
        for reply in (await client.post(CHAT, json=HELLO), await client.get("/v1/models"), await client.get("/health")):
            assert reply.status_code == 503
            assert reply.json()["error"]["code"] == "server_loading"
            assert "reading weights, 40% done" in reply.json()["error"]["message"]
            assert int(reply.headers["retry-after"]) > 0
        assert (await client.get("/version")).status_code == 200


async def test_while_draining_nothing_new_is_taken() -> None:
    async with client_of(app_over(FakeEngine(), readiness=Condition("draining", "shutting down"))) as client:
        reply = await client.post(CHAT, json=HELLO)
        assert (await client.get("/v1/models")).status_code == 200
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "server_draining")
    assert reply.headers["connection"] == "close"
    assert reply.headers["retry-after"]


async def test_a_dead_engine_turns_health_red() -> None:
    async with client_of(app_over(FakeEngine(), readiness=Condition("failed", "exit code 9"))) as client:
        reply = await client.get("/health")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_dead")
    async with client_of(app_over(FakeEngine(refusal=EngineDeadError("silent for 130 s")))) as client:
        assert (await client.get("/health")).status_code == 503


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (OverloadedError("1024 requests wait, the limit is 1024", retry_after_s=2.5), 503, "server_overloaded"),
        (EngineDeadError("the engine has ended"), 503, "engine_dead"),
        (PromptTooLongError(300, 256, param="messages"), 400, "context_length_exceeded"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_what_the_engine_refuses_is_a_proper_status_also_for_streams(
    refusal: OverloadedError, status: int, code: str, stream: bool
) -> None:
    async with client_of(app_over(FakeEngine(refusal=refusal))) as client:
        reply = await client.post(CHAT, json=HELLO | {"stream": stream})
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    if code == "server_overloaded":
        assert reply.headers["retry-after"] == "3"


async def test_an_unforeseen_error_is_told_without_details(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: object) -> str:
        raise ZeroDivisionError("secret detail")

    async with client_of(app_over(FakeEngine(answer=broken))) as client:
        reply = await client.post(CHAT, json=HELLO, headers={"X-Request-Id": "find-me"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in reply.text
    assert "find-me" in reply.json()["error"]["message"]
    assert "secret detail" in caplog.text


@pytest.mark.parametrize("sent", ["a-b_c.1", "x" * 128])
async def test_a_well_formed_request_id_is_kept(sent: str) -> None:
    async with client_of(app_over(FakeEngine())) as client:
        reply = await client.post(CHAT, json=HELLO, headers={"X-Request-Id": sent})
    assert reply.headers["x-request-id"] == sent
    assert reply.json()["id"] == f"chatcmpl-{sent}"


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "a;b", "\u00e9"])
async def test_any_other_request_id_is_replaced(sent: str) -> None:
    async with client_of(app_over(FakeEngine())) as client:
        reply = await client.get("/version", headers=[(b"X-Request-Id", sent.encode("latin-1"))])
    assert reply.headers["x-request-id"] != sent
    assert len(reply.headers["x-request-id"]) == 32


async def test_the_access_log_has_one_line_that_a_path_cannot_break(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="specserve.access"):
        async with client_of(app_over(FakeEngine())) as client:
            await client.get("/v1/%0aINFO%20fake%1b")
    lines = [record.getMessage() for record in caplog.records if record.name == "specserve.access"]
    assert len(lines) == 1
    assert lines[0].isprintable()
    assert "status=404" in lines[0]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_another_content_type_is_refused(kind: str | None) -> None:
    async with client_of(app_over(FakeEngine())) as client:
        reply = await client.post(
            CHAT, content=json.dumps(HELLO), headers={"Content-Type": kind} if kind is not None else {}
        )
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert "application/json" in reply.json()["error"]["message"]


async def test_a_charset_beside_the_content_type_is_fine() -> None:
    async with client_of(app_over(FakeEngine())) as client:
        kind = {"Content-Type": "Application/JSON; charset=utf-8"}
        assert (await client.post(CHAT, content=json.dumps(HELLO), headers=kind)).status_code == 200


@pytest.mark.parametrize("announced", [True, False])
async def test_a_large_body_is_refused_with_the_limit(announced: bool) -> None:
    async def pieces():  # type: ignore[no-untyped-def]
        for _ in range(4):
            yield b" " * 500

    limits = Limits(max_body_bytes=1000)
    async with client_of(app_over(FakeEngine(), limits=limits)) as client:
        reply = await client.post(
            CHAT,
            content=b" " * 2000 if announced else pieces(),  # type: ignore[no-untyped-call]
            headers={"Content-Type": "application/json"},
        )
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "request_too_large")
    assert "1000 bytes" in reply.json()["error"]["message"]


async def endless() -> AsyncIterator[bytes]:
    yield b'{"messages": '
    await asyncio.Event().wait()


async def test_a_body_that_never_ends_is_given_up() -> None:
    limits = Limits(body_timeout_s=0.05)
    async with client_of(app_over(FakeEngine(), limits=limits)) as client:
        reply = await client.post(CHAT, content=endless(), headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (408, "request_timeout")
    assert reply.headers["connection"] == "close"


async def test_a_drain_does_not_wait_for_a_body() -> None:
    lifecycle, engine = Lifecycle(), FakeEngine()
    lifecycle.become_ready(engine)
    async with client_of(app_over(engine, readiness=lifecycle)) as client:
        slow = asyncio.create_task(
            client.post(CHAT, content=endless(), headers={"Content-Type": "application/json"}),
        )
        while not (await client.get("/health")).is_success or slow.done():
            pass
        lifecycle.drain()
        reply = await slow
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "server_draining")
    assert reply.headers["connection"] == "close"
    assert engine.requests == []


async def test_fields_nobody_knows_are_told_in_a_header() -> None:
    async with client_of(app_over(FakeEngine())) as client:
        reply = await client.post(CHAT, json=HELLO | {"temprature": 1, "top_q": 2})
    assert reply.headers["x-ignored-params"] == "temprature,top_q"


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/tokenize", "/v1/detokenize"])
async def test_a_strict_server_refuses_unknown_fields_by_name(path: str) -> None:
    bodies = {CHAT: HELLO, "/v1/detokenize": {"tokens": [5]}}
    body = bodies.get(path, {"prompt": "a"})
    async with client_of(app_over(FakeEngine(), limits=Limits(is_strict=True))) as client:
        assert (await client.post(path, json=body)).status_code == 200
        reply = await client.post(path, json=body | {"modle": "fake"})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "unknown_parameter", "modle")
    assert "did you mean model?" in error["message"]
    assert "x-ignored-params" not in reply.headers


async def test_models_are_found_by_every_name_and_near_names_are_told() -> None:
    async with client_of(app_over(FakeEngine(), names=("org/model", "alias"))) as client:
        listed = (await client.get("/v1/models")).json()["data"]
        assert [model["id"] for model in listed] == ["org/model", "alias"]
        assert listed[0]["max_model_len"] == 256
        assert (await client.get("/v1/models/org/model")).json()["id"] == "org/model"
        assert (await client.get("/v1/models/org%2Fmodel")).json()["id"] == "org/model"
        missing = await client.get("/v1/models/aliass")
        for name in (None, "", "alias"):
            assert (await client.post(CHAT, json=HELLO | {"model": name})).json()["model"] == "org/model"
    assert missing.status_code == 404
    assert "did you mean alias?" in missing.json()["error"]["message"]


async def test_documents_can_be_left_unpublished() -> None:
    async with client_of(app_over(FakeEngine(), has_docs=False)) as client:
        for path in ("/openapi.json", "/docs", "/redoc"):
            reply = await client.get(path)
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_url")
            assert "openapi.json lists" not in reply.json()["error"]["message"]
        assert (await client.get("/version")).status_code == 200


class ByRouter(Application):
    """The application as if it had no straight way."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await FastAPI.__call__(self, scope, receive, send)


@pytest.mark.parametrize("key", [None, "Bearer key-1"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", CHAT, HELLO),
        ("POST", CHAT, HELLO | {"stream": True}),
        ("POST", CHAT, HELLO | {"temperature": 9}),
        ("POST", CHAT + "/", HELLO),
        ("PUT", CHAT, HELLO),
        ("OPTIONS", CHAT, None),
        ("GET", "/v1/models", None),
        ("HEAD", "/v1/models", None),
        ("GET", "/v1/models/fake", None),
        ("GET", "/health", None),
        ("GET", "/version", None),
        ("GET", "/v1/model", None),
    ],
)
async def test_the_straight_way_to_an_operation_answers_as_the_router_does(
    method: str, path: str, body: object, key: str | None
) -> None:
    replies = []
    for is_straight in (True, False):
        app = app_over(FakeEngine(), api_keys=("key-1",))
        if not is_straight:
            app.__class__ = ByRouter
        headers = {"X-Request-Id": "mine"} | ({"Authorization": key} if key is not None else {})
        async with client_of(app) as client:
            replies.append(await client.request(method, path, headers=headers, json=body))
    straight, routed = replies
    assert straight.status_code == routed.status_code
    names = straight.headers.keys() - {"openai-processing-ms"}
    assert {name: straight.headers[name] for name in names} == {name: routed.headers[name] for name in names}
    assert straight.headers.keys() == routed.headers.keys()
    assert without_times(straight.text) == without_times(routed.text)


def without_times(text: str) -> str:
    return re.sub(r'"created":\d+', "", text)


async def test_a_server_behind_a_prefix_answers_too() -> None:
    transport = httpx2.ASGITransport(app=app_over(FakeEngine()), root_path="/prefix")
    async with httpx2.AsyncClient(transport=transport, base_url="http://server") as client:
        assert (await client.get("/prefix/version")).status_code == 200
        assert (await client.post(f"/prefix{CHAT}", json=HELLO)).status_code == 200


def test_a_parameter_takes_slashes_only_where_no_path_goes_on_below_it() -> None:
    paths = ["/models/{model}", "/answers/{id}", "/answers/{id}/cancel"]
    assert [routable(path, paths) for path in paths] == [
        "/models/{model:path}",
        "/answers/{id}",
        "/answers/{id}/cancel",
    ]
