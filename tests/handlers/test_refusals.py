"""Every code of the catalogue is provoked, by every operation that lists it, streamed and not: one table."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jsonschema
import pytest
from fake_engine import Condition, FakeEngine, app_over, client_of
from fake_pooling import FakePooling, embedder

from specserve.engine.api import GenerationRequest
from specserve.engine.errors import EngineDeadError, OverloadedError
from specserve.generated import document, schemas
from specserve.generated.base import ApiModel
from specserve.generated.errors import ERRORS
from specserve.generated.operations import OPERATIONS, Operation
from specserve.handlers.chat.prompts import Prompts, TemplateOptions
from specserve.handlers.envelopes import FORMS, envelope_of, type_in
from specserve.handlers.fields import POLICIES
from specserve.handlers.grammars import GrammarBudget
from specserve.handlers.limits import Limits

DOCUMENT = json.loads(document())
ENVELOPES = {
    name: jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}ErrorResponse", "components": DOCUMENT["components"]}
    )
    for name in FORMS
}
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
PROMPT: dict[str, Any] = {"prompt": "hello"}
ITEMS: dict[str, Any] = {"input": "hello"}
SOUND: dict[type[ApiModel], dict[str, Any]] = {
    schemas.ChatCompletionRequest: HELLO,
    schemas.CompletionRequest: PROMPT,
    schemas.MessagesRequest: HELLO | {"max_tokens": 5},
    schemas.CountTokensRequest: HELLO,
    schemas.TokenizeRequest: PROMPT,
    schemas.DetokenizeRequest: {"tokens": [5]},
    schemas.ResponseRequest: ITEMS,
    schemas.InputTokensRequest: ITEMS,
    schemas.EmbeddingRequest: {"input": "hello"},
    schemas.PoolingRequest: {"input": "hello"},
    schemas.ClassifyRequest: {"input": "hello"},
    schemas.LoadAdapterRequest: {"lora_name": "sql", "lora_path": "/adapters/sql"},
    schemas.UnloadAdapterRequest: {"lora_name": "sql"},
    schemas.ScoreRequest: {"text_1": "hello", "text_2": "you"},
    schemas.RerankRequest: {"query": "hello", "documents": ["you"]},
    schemas.CohereEmbedRequest: {"texts": ["hello"]},
}


def taking(*bodies: type[ApiModel]) -> tuple[str, ...]:
    """The operations that take one of these bodies."""
    return tuple(operation.id for operation in OPERATIONS.values() if operation.body in bodies)


LOAD_ADAPTER, UNLOAD_ADAPTER = taking(schemas.LoadAdapterRequest), taking(schemas.UnloadAdapterRequest)
ADAPTERS = (*LOAD_ADAPTER, *UNLOAD_ADAPTER)
CHANGES_ADAPTERS = {"lora_dirs": ("/adapters",)}
BODIES = tuple(name for name in taking(*SOUND) if name not in ADAPTERS)
CHAT = taking(schemas.ChatCompletionRequest)
COMPLETION = taking(schemas.CompletionRequest)
TOKENIZE = taking(schemas.TokenizeRequest)
DETOKENIZE = taking(schemas.DetokenizeRequest)
INPUT = taking(schemas.EmbeddingRequest, schemas.PoolingRequest, schemas.ClassifyRequest)
SCORE = taking(schemas.ScoreRequest)
RERANK = taking(schemas.RerankRequest)
COHERE_EMBED = taking(schemas.CohereEmbedRequest)
POOL = (*INPUT, *SCORE, *RERANK, *COHERE_EMBED)
EVERY_TASK = {"tasks": ("embed", "classify", "token_embed", "token_classify"), "labels": ("yes",)}
ASK = (*CHAT, *COMPLETION)
RESPOND = taking(schemas.ResponseRequest)
COUNT = taking(schemas.InputTokensRequest)
READ_ITEMS = (*RESPOND, *COUNT)
GENERATE = (*(name for name in (*ASK, *taking(schemas.MessagesRequest)) if OPERATIONS[name].events), *RESPOND)
STORED = ("retrieve_response", "cancel_response", "delete_response", "list_response_input_items")
MESSAGES = taking(schemas.MessagesRequest)
READ_BLOCKS = (*MESSAGES, *taking(schemas.CountTokensRequest))
INFO = ("show_tokenizer_info", "show_tokenizer_info_v1")
FUNCTION = {"type": "function", "name": "f"}
LARK = {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}}
HOSTED = {"type": "web_search"}
NO_TOOLS = {"type": "allowed_tools", "mode": "auto", "tools": []}
SHOWN = {
    "role": "user",
    "content": [{"type": "input_image", "image_url": "data:image/gif;base64,R0lGODlhAQABAAAAACw="}],
}
READ = {"role": "user", "content": [{"type": "input_file", "file_data": "data:text/plain;base64,aGk="}]}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlhAQABAAAAACw="}}

IMAGE_BLOCK = {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}


def break_down(request: GenerationRequest) -> str:
    raise ZeroDivisionError("nobody foresaw this")


def templated(source: str) -> Prompts:
    return Prompts(TemplateOptions(chat_template=source))


@dataclass(frozen=True)
class Refusal:
    """How to provoke `code`: `fields` into a sound body, or `content` instead of it; `server` and `engine` options."""

    code: str
    operations: tuple[str, ...]
    fields: dict[str, Any] = field(default_factory=dict)
    content: bytes | None = None
    content_type: str | None = "application/json"
    path: str | None = None
    method: str | None = None
    server: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    param: str | None = None
    over: Callable[..., Any] | None = None

    def engine_for(self, operation: Operation) -> Any:
        """One that can do what the operation is for, unless the refusal is about just that."""
        if self.over is not None:
            return self.over()
        return FakePooling(EVERY_TASK, **self.engine) if operation.id in POOL else FakeEngine(**self.engine)


def listing(code: str) -> tuple[str, ...]:
    return tuple(operation.id for operation in OPERATIONS.values() if code in operation.refusals)


STATES = {
    "server_loading": Condition("loading", "reading weights", 0.4),
    "server_draining": Condition("draining", "shutting down"),
    "engine_dead": Condition("failed", "exit code 9"),
}
REFUSALS = [
    *(Refusal(code, listing(code), server={"readiness": state}) for code, state in STATES.items()),
    Refusal(
        "engine_dead", (*GENERATE, *POOL, "show_health"), engine={"refusal": EngineDeadError("the engine has ended")}
    ),
    Refusal("engine_dead", GENERATE, engine={"dies_after": 0}),
    Refusal(
        "server_overloaded",
        (*GENERATE, *POOL),
        engine={"refusal": OverloadedError("1024 requests wait", retry_after_s=2)},
    ),
    Refusal(
        "server_overloaded",
        ASK,
        {"structured_outputs": {"regex": "a"}},
        server={"grammar_budget": GrammarBudget(max_parallel=0, max_waiting=0)},
    ),
    Refusal("rate_limit_exceeded", (*GENERATE, *POOL), server={"limits": Limits(max_open_per_client=0)}),
    Refusal("internal_error", GENERATE, engine={"answer": break_down}),
    Refusal("invalid_api_key", ("list_models", *GENERATE, *POOL, "tokenize_v1"), server={"api_keys": ("key",)}),
    Refusal("unknown_url", GENERATE, path="/v1/complete"),
    Refusal("unknown_url", ("retrieve_model",), path="/v1/models/"),
    Refusal("method_not_allowed", BODIES, method="GET"),
    Refusal("endpoint_disabled", (*INFO, *ADAPTERS)),
    Refusal("adapter_not_found", LOAD_ADAPTER, {"base_model_name": "fake"}, server=CHANGES_ADAPTERS),
    Refusal("unsupported_parameter", LOAD_ADAPTER, {"is_3d_lora_weight": True}, param="is_3d_lora_weight"),
    Refusal("adapter_not_found", UNLOAD_ADAPTER, server=CHANGES_ADAPTERS),
    Refusal("missing_required_parameter", LOAD_ADAPTER, content=b"{}", param="lora_name"),
    Refusal("unsupported_value", LOAD_ADAPTER, {"lora_name": "../x"}, server=CHANGES_ADAPTERS, param="lora_name"),
    Refusal("model_not_found", LOAD_ADAPTER, {"base_model_name": "fakee"}, server=CHANGES_ADAPTERS),
    Refusal("invalid_request", BODIES, content=b""),
    Refusal("invalid_request", BODIES, content=b"{"),
    Refusal("invalid_request", BODIES, content=b"[]"),
    Refusal("unsupported_media_type", BODIES, content_type="text/plain"),
    Refusal("unsupported_media_type", BODIES, content_type=None),
    Refusal("request_too_large", BODIES, content=b"[" * 5000),
    Refusal("request_too_large", BODIES, server={"limits": Limits(max_body_bytes=10)}),
    Refusal("missing_required_parameter", (*CHAT, *DETOKENIZE, *READ_BLOCKS), content=b'{"model": null}'),
    Refusal("unknown_parameter", BODIES, {"modle": "a"}, server={"limits": Limits(is_strict=True)}, param="modle"),
    Refusal("deadline_exceeded", listing("deadline_exceeded"), server={"limits": Limits(request_timeout_s=1e-6)}),
    Refusal("missing_required_parameter", COMPLETION, content=b'{"stream": true}', param="prompt"),
    Refusal("invalid_type", BODIES, {"model": 5}, param="model"),
    Refusal("invalid_type", ASK, {"n": 1.5}, param="n"),
    Refusal("invalid_value", ASK, {"truncation_side": "up"}, param="truncation_side"),
    Refusal("integer_below_min_value", ASK, {"n": 0}, param="n"),
    Refusal("integer_above_max_value", ASK, {"seed": 2**63}, param="seed"),
    Refusal("decimal_below_min_value", ASK, {"temperature": -0.1}, param="temperature"),
    Refusal("decimal_above_max_value", ASK, {"temperature": 2.1}, param="temperature"),
    Refusal("string_below_min_length", ASK, {"stop": ""}, param="stop"),
    Refusal("string_above_max_length", ASK, {"cache_salt": "x" * 1000}, param="cache_salt"),
    Refusal("array_above_max_length", ASK, {"stop": list("abcde")}, param="stop"),
    Refusal("empty_array", (*CHAT, *TOKENIZE, *READ_BLOCKS), {"messages": []}, param="messages"),
    Refusal("model_not_found", BODIES, {"model": "fakee"}, param="model"),
    Refusal("model_not_found", ("retrieve_model",), path="/v1/models/fakee", param="model"),
    Refusal("context_length_exceeded", (*CHAT, *MESSAGES), {"messages": [{"role": "user", "content": "x " * 600}]}),
    Refusal("context_length_exceeded", COMPLETION, {"prompt": "x " * 600}),
    Refusal("invalid_parameter_combination", ASK, {"min_tokens": 9, "max_tokens": 3}, param="min_tokens"),
    Refusal("invalid_parameter_combination", ASK, {"stream_options": {}, "stream": False}, param="stream_options"),
    Refusal("invalid_parameter_combination", CHAT, {"top_logprobs": 2}, param="top_logprobs"),
    Refusal("invalid_parameter_combination", TOKENIZE, HELLO, param="prompt"),
    Refusal("token_out_of_vocabulary", ASK, {"stop_token_ids": [10**6]}, param="stop_token_ids"),
    Refusal("token_out_of_vocabulary", ASK, {"logit_bias": {"1000000": 1}}, param="logit_bias"),
    Refusal("token_out_of_vocabulary", ASK, {"allowed_token_ids": [10**6]}, param="allowed_token_ids"),
    Refusal("token_out_of_vocabulary", COMPLETION, {"prompt": [10**9]}, param="prompt"),
    Refusal("token_out_of_vocabulary", DETOKENIZE, {"tokens": [5, 10**9]}, param="tokens.1"),
    Refusal("unsupported_value", ASK, {"n": 2000}, param="n"),
    Refusal("unsupported_value", CHAT, {"messages": [{"role": "user", "content": [IMAGE]}]}),
    Refusal("unsupported_value", TOKENIZE, {"prompt": None, "messages": [{"role": "user", "content": [IMAGE]}]}),
    Refusal(
        "unsupported_parameter",
        (*CHAT, *TOKENIZE),
        HELLO | {"prompt": None, "chat_template": "{{ 1 }}"},
        param="chat_template",
    ),
    Refusal("invalid_prompt", COMPLETION, {"prompt": ""}, param="prompt"),
    Refusal("missing_required_parameter", READ_ITEMS, content=b"{}", param="input"),
    Refusal("missing_required_parameter", READ_ITEMS, {"input": [{"role": "user"}]}, param="input.0.content"),
    Refusal("invalid_type", READ_ITEMS, {"input": [5]}, param="input.0"),
    Refusal("invalid_value", READ_ITEMS, {"input": [{"role": "cook", "content": "x"}]}, param="input.0.role"),
    Refusal("string_below_min_length", READ_ITEMS, {"tools": [FUNCTION | {"name": ""}]}, param="tools.0.name"),
    Refusal("string_above_max_length", READ_ITEMS, {"tools": [FUNCTION | {"name": "x" * 200}]}, param="tools.0.name"),
    Refusal("response_not_found", READ_ITEMS, {"previous_response_id": "resp_1"}, param="previous_response_id"),
    Refusal("response_not_found", STORED, param="response_id"),
    Refusal("item_not_found", READ_ITEMS, {"input": [{"type": "item_reference", "id": "msg_1"}]}, param="input.0.id"),
    Refusal(
        "invalid_parameter_combination",
        ("retrieve_response",),
        path="/v1/responses/resp_1?starting_after=1",
        param="starting_after",
    ),
    Refusal("context_length_exceeded", RESPOND, {"input": "x " * 600}, param="input"),
    Refusal("context_length_exceeded", COUNT, {"input": "x" * 100_000}, param="input"),
    Refusal("invalid_prompt", READ_ITEMS, {"input": [{"type": "web_search_call", "id": "ws_1"}]}, param="input"),
    Refusal("invalid_prompt", READ_ITEMS, server={"prompts": templated("{{ 1 // 0 }}")}, param="input"),
    Refusal("unsupported_parameter", READ_ITEMS, {"chat_template": "{{ 1 }}"}, param="chat_template"),
    Refusal("unsupported_value", READ_ITEMS, {"input": [SHOWN]}, param="input.0.content.0.type"),
    Refusal("unsupported_value", READ_ITEMS, {"input": [READ]}, param="input.0.content.0.type"),
    Refusal(
        "unsupported_value", READ_ITEMS, {"tools": [LARK], "tool_choice": "required"}, param="tools.0.format.syntax"
    ),
    Refusal("unsupported_value", READ_ITEMS, {"tool_choice": {"type": "mcp"}}, param="tool_choice.type"),
    Refusal("unsupported_value", READ_ITEMS, {"tools": [HOSTED], "tool_choice": "required"}, param="tool_choice"),
    Refusal("unsupported_value", READ_ITEMS, {"tools": [FUNCTION], "tool_choice": NO_TOOLS}, param="tool_choice.tools"),
    Refusal("invalid_parameter_combination", READ_ITEMS, {"tool_choice": "required"}, param="tool_choice"),
    Refusal("invalid_parameter_combination", READ_ITEMS, {"tools": [FUNCTION, FUNCTION]}, param="tools.1.name"),
    Refusal(
        "invalid_parameter_combination",
        READ_ITEMS,
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}},
        param="tool_choice.name",
    ),
    Refusal("invalid_parameter_combination", RESPOND, {"stream_options": {}, "stream": False}, param="stream_options"),
    Refusal("invalid_parameter_combination", RESPOND, {"background": True, "store": False}, param="background"),
    Refusal(
        "invalid_parameter_combination",
        RESPOND,
        {"text": {"format": {"type": "json_object"}}, "structured_outputs": {"choice": ["a"]}},
    ),
    Refusal(
        "invalid_parameter_combination",
        RESPOND,
        {"tools": [FUNCTION], "tool_choice": "required", "structured_outputs": {"choice": ["a"]}},
        param="structured_outputs",
    ),
    Refusal(
        "invalid_parameter_combination",
        RESPOND,
        {"truncation": "auto", "truncate_prompt_tokens": 5},
        param="truncate_prompt_tokens",
    ),
    Refusal(
        "invalid_parameter_combination",
        RESPOND,
        {"previous_input_messages": [], "previous_response_id": "resp_1"},
    ),
    Refusal(
        "invalid_value", RESPOND, {"previous_input_messages": [{"role": "user"}]}, param="previous_input_messages.0"
    ),
    Refusal("token_out_of_vocabulary", RESPOND, {"stop_token_ids": [10**6]}, param="stop_token_ids"),
    Refusal("invalid_constraint", RESPOND, {"structured_outputs": {"regex": "("}}, param="structured_outputs.regex"),
    Refusal("invalid_constraint", RESPOND, {"structured_outputs": {}}, param="structured_outputs"),
    Refusal("unsupported_value", RESPOND, {"top_logprobs": 2000}, param="top_logprobs"),
    Refusal(
        "missing_required_parameter",
        READ_BLOCKS,
        {"tools": [{"type": "custom"}]},
        param="tools.0.name",
    ),
    Refusal("invalid_parameter_combination", READ_BLOCKS, {"tool_choice": {"type": "any"}}),
    Refusal("unsupported_value", READ_BLOCKS, {"messages": [{"role": "user", "content": [IMAGE_BLOCK]}]}),
    Refusal("unsupported_parameter", READ_BLOCKS, {"mcp_servers": [{"type": "url"}]}, param="mcp_servers"),
    Refusal("unsupported_parameter", MESSAGES, {"container": "c"}, param="container"),
    Refusal("invalid_prompt", READ_BLOCKS, {"messages": [{"role": "assistant", "content": ""}]}),
    Refusal("invalid_constraint", MESSAGES, {"output_format": {"type": "json_schema", "schema": {"type": "no"}}}),
    Refusal("unsupported_task", (*ASK, *READ_ITEMS, *READ_BLOCKS), param="model", over=embedder),
    Refusal("unsupported_task", POOL, param="model", over=FakeEngine),
    Refusal("missing_required_parameter", INPUT, content=b"{}", param="input"),
    Refusal("missing_required_parameter", SCORE, content=b"{}", param="queries"),
    Refusal("missing_required_parameter", RERANK, content=b"{}", param="query"),
    Refusal("context_length_exceeded", INPUT, {"input": ["a", "a " * 60]}, param="input.1"),
    Refusal("context_length_exceeded", SCORE, {"text_2": ["a", "a " * 60]}, param="text_2.1"),
    Refusal("context_length_exceeded", RERANK, {"documents": ["a", "a " * 60]}, param="documents.1"),
    Refusal("context_length_exceeded", COHERE_EMBED, {"texts": ["a " * 60], "truncate": "NONE"}, param="texts.0"),
    Refusal("invalid_parameter_combination", INPUT, HELLO, param="messages"),
    Refusal("invalid_parameter_combination", SCORE, {"text_1": ["a", "b"], "text_2": ["c"]}, param="text_1"),
    Refusal("invalid_parameter_combination", RERANK, {"softmax": True, "activation": False}, param="activation"),
    Refusal("invalid_parameter_combination", COHERE_EMBED, content=b"{}", param="texts"),
    Refusal("token_out_of_vocabulary", INPUT, {"input": [5, 10**6]}, param="input.1"),
    Refusal("unsupported_value", INPUT, {"truncate_prompt_tokens": 0}, param="truncate_prompt_tokens"),
    Refusal("unsupported_value", (*SCORE, *RERANK), {"truncate_prompt_tokens": 1}, param="truncate_prompt_tokens"),
    Refusal("unsupported_value", COHERE_EMBED, {"output_dimension": 3}, param="output_dimension"),
    Refusal("unsupported_parameter", (*SCORE, *RERANK), {"instruction": "Be brief."}, param="instruction"),
    Refusal("unsupported_parameter", INPUT, HELLO | {"input": None, "chat_template": "{{ 1 }}"}, param="chat_template"),
    Refusal("invalid_prompt", INPUT, {"input": ["a", ""]}, param="input.1"),
    Refusal("invalid_prompt", SCORE, {"text_1": ""}, param="text_1"),
    Refusal("invalid_prompt", RERANK, {"documents": ["a", ""]}, param="documents.1"),
    Refusal("invalid_prompt", COHERE_EMBED, {"texts": [""]}, param="texts.0"),
    Refusal("invalid_constraint", ASK, {"guided_regex": "("}, param="guided_regex"),
    *(
        Refusal("invalid_prompt", (name,), HELLO | more, server={"prompts": templated(source)}, param="messages")
        for name, more in (*((name, {}) for name in CHAT), *((name, {"prompt": None}) for name in TOKENIZE))
        for source in ("{{ raise_exception('roles must alternate') }}", "{{ messages[0].content.a.b }}", "{{ 1 // 0 }}")
    ),
]


def examples(schema: type[ApiModel]) -> list[dict[str, Any]]:
    """Every body of this kind that the contract shows."""
    contents = [
        DOCUMENT["paths"][operation.path][operation.method.lower()]["requestBody"]["content"]["application/json"]
        for operation in OPERATIONS.values()
        if operation.body is schema
    ]
    return [example["value"] for content in contents for example in content["examples"].values()]


def refused_fields() -> Iterator[Refusal]:
    """Every field that is refused, with the value it has in the contract's own examples."""
    for schema, policy in POLICIES.items():
        for name in sorted(policy.refused):
            body = next(value for value in examples(schema) if name in value)
            # Fields that are refused as well may stand beside it in the example.
            found = {key: value for key, value in body.items() if key == name or key in SOUND[schema]}
            if found[name] is not False and found[name] not in (None, [], {}, schema.model_fields[name].default):
                yield Refusal("unsupported_parameter", taking(schema), found, param=name)


@dataclass(frozen=True)
class Attempt:
    refusal: Refusal
    operation: Operation
    stream: bool

    def __str__(self) -> str:
        return f"{self.operation.id}-{self.refusal.code}{'-streamed' if self.stream else ''}"


ATTEMPTS = [
    Attempt(refusal, OPERATIONS[name], stream)
    for refusal in [*REFUSALS, *refused_fields()]
    for name in refusal.operations
    for stream in ([False, True] if OPERATIONS[name].events and "stream" not in refusal.fields else [False])
]


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=str)
async def test_what_can_be_refused_is_refused_before_the_answer_begins(attempt: Attempt) -> None:
    refusal, operation = attempt.refusal, attempt.operation
    engine = refusal.engine_for(operation)
    content = refusal.content
    if content is None and operation.body is not None:
        streamed = {"stream": True} if attempt.stream else {}
        content = json.dumps(SOUND[operation.body] | refusal.fields | streamed).encode()
    async with client_of(app_over(engine, **refusal.server)) as client:
        reply = await client.request(
            refusal.method or operation.method,
            refusal.path or operation.path.replace("{model}", "fake").replace("{response_id}", "resp_1"),
            content=content,
            headers={"Content-Type": refusal.content_type} if content is not None and refusal.content_type else {},
        )
    known = ERRORS[refusal.code]
    assert (reply.status_code, reply.headers["content-type"]) == (known.status, "application/json"), reply.text
    assert len(reply.content) < 8192
    envelope = envelope_of(reply.request.url.path)
    ENVELOPES[envelope].validate(reply.json())
    error = reply.json()["error"]
    kind = type_in(envelope, known("")) if envelope else known.type
    assert (error["code"], error["type"]) == (known.code, kind), error
    assert refusal.param is None or error["param"] == refusal.param
    assert known.names_field == "sometimes" or (error["param"] is not None) == (known.names_field == "always")
    assert reply.headers["x-request-id"]
    if refusal.code == "server_overloaded" or known.status == 429:
        assert int(reply.headers["retry-after"]) > 0


WITH_STORED_RESPONSES = {
    ("create_response", "invalid_response_state"),
    ("count_response_input_tokens", "invalid_response_state"),
    ("retrieve_response", "invalid_response_state"),
    ("cancel_response", "invalid_response_state"),
    ("list_response_input_items", "item_not_found"),
}
"""What takes more than one request is provoked beside the tests of responses."""
ON_SOCKETS = {
    ("create_response", "previous_response_not_found"),
    ("create_response", "websocket_connection_limit_reached"),
}
"""Provoked in the tests of WebSockets."""


def test_the_table_covers_the_catalogue_and_every_operation() -> None:
    elsewhere = {"request_timeout", "invalid_response_state"}  # a body that never ends, below; stored responses
    elsewhere |= {code for _, code in ON_SOCKETS}
    assert {attempt.refusal.code for attempt in ATTEMPTS} | elsewhere == ERRORS.keys()
    provoked = {(attempt.operation.id, attempt.refusal.code) for attempt in ATTEMPTS}
    provoked |= WITH_STORED_RESPONSES | ON_SOCKETS
    for operation in OPERATIONS.values():
        assert not [code for code in sorted(operation.refusals) if (operation.id, code) not in provoked], operation.id


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_never_ends_is_refused(name: str) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"stream": true, '
        await asyncio.Event().wait()

    async with client_of(app_over(FakeEngine(), limits=Limits(body_timeout_s=0.02))) as client:
        reply = await client.post(
            OPERATIONS[name].path, content=endless(), headers={"Content-Type": "application/json"}
        )
    assert (reply.status_code, reply.json()["error"]["code"]) == (408, "request_timeout")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_prompt_the_template_refuses_is_told_in_the_templates_words_and_in_no_others(stream: bool) -> None:
    said = {}
    for source in ("{{ raise_exception('roles must alternate') }}", "{{ messages[0].content.a.b }}", "{{ 1 // 0 }}"):
        async with client_of(app_over(FakeEngine(), prompts=templated(source))) as client:
            reply = await client.post(OPERATIONS[GENERATE[0]].path, json=HELLO | {"stream": stream})
        said[source] = reply.json()["error"]["message"].removeprefix("the chat template refuses these messages: ")
    assert list(said.values()) == [
        "roles must alternate",
        "it reads a, which is not there",
        "it cannot be rendered with them",
    ]


async def test_a_client_that_holds_its_share_is_refused_until_it_gives_something_back() -> None:
    release, arrived = asyncio.Event(), asyncio.Semaphore(0)

    class Waiting(FakeEngine):
        async def _outputs(self, request: GenerationRequest) -> Any:
            arrived.release()
            await release.wait()
            async for output in super()._outputs(request):
                yield output

    engine, path = Waiting(), OPERATIONS[GENERATE[1]].path
    keys: Any = {"api_keys": ("a", "b"), "limits": Limits(max_open_per_client=2)}
    async with client_of(app_over(engine, **keys)) as client:

        def ask(key: str, stream: bool = False) -> Any:
            return client.post(path, json=PROMPT | {"stream": stream}, headers={"Authorization": f"Bearer {key}"})

        held = [asyncio.create_task(ask("a", stream)) for stream in (False, True)]
        await arrived.acquire()
        await arrived.acquire()
        refused = await ask("a")
        other = asyncio.create_task(ask("b"))
        await arrived.acquire()
        release.set()
        statuses = [(await task).status_code for task in (*held, other)]
        again = await ask("a")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert "2 requests of this client are open, the limit is 2" in refused.json()["error"]["message"]
    assert statuses == [200, 200, 200]
    assert again.status_code == 200
