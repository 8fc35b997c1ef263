"""The HTTP application: the contract's operations over one engine that may still be loading. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from specserve.engine.api import Engine
from specserve.generated import document
from specserve.generated.operations import OPERATIONS
from specserve.handlers.anthropic.messages import Messages
from specserve.handlers.anthropic.prepare_message import MessagePreparation
from specserve.handlers.auth import ApiKeyGuard
from specserve.handlers.chat.answer_formats import FormatChoice
from specserve.handlers.chat.preparation import ChatOptions, ChatPreparation
from specserve.handlers.chat.prompts import Prompts
from specserve.handlers.cohere.embed import Cohere
from specserve.handlers.context import Readiness, request_identity
from specserve.handlers.envelopes import envelope_of, error_bytes
from specserve.handlers.errors import route_error
from specserve.handlers.extras.adapters import Adapters
from specserve.handlers.extras.classify import Classify
from specserve.handlers.extras.pooling import Pooling
from specserve.handlers.extras.render import Render
from specserve.handlers.extras.score import Score
from specserve.handlers.extras.tokenization import Tokenization
from specserve.handlers.grammars import GrammarBudget, GrammarChecker
from specserve.handlers.jina.rerank import Rerank
from specserve.handlers.lifecycle import Lifecycle
from specserve.handlers.limits import Limits
from specserve.handlers.middleware import RequestLog
from specserve.handlers.model_directory import ModelDirectory, Source
from specserve.handlers.openai.chat_completions import ChatCompletions
from specserve.handlers.openai.completions import Completions
from specserve.handlers.openai.embeddings import Embeddings
from specserve.handlers.openai.models import Models
from specserve.handlers.openai.prepare_chat import CompletionPreparation
from specserve.handlers.openai.reply_defaults import ReplyDefaults
from specserve.handlers.openai.responses.background import BackgroundResponses
from specserve.handlers.openai.responses.handler import Responses
from specserve.handlers.openai.responses.prepare import ResponsePreparation
from specserve.handlers.openai.responses.socket import ResponseSocket
from specserve.handlers.openai.responses.store import MemoryStore, ResponseStore
from specserve.handlers.ops.server import Server
from specserve.handlers.pooling.ranking import Ranking
from specserve.handlers.routing import StraightWay, mount
from specserve.handlers.settings import ServerSettings
from specserve.handlers.sockets import SocketEndpoint, Sockets

RESPONSES = "/v1/responses"


class Application(FastAPI):
    """Operations are answered on a straight way: FastAPI's middleware and router take 30 µs and add nothing to them.

    FastAPI has the rest: the document and its pages, unknown paths, wrong methods, paths with parameters.
    """

    is_straight: Callable[[Scope], bool]
    straight: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.is_straight(scope):
            await self.straight(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(
    lifecycle: Lifecycle,
    settings: ServerSettings,
    prompts: Prompts,
    formats: FormatChoice | None = None,
    store: ResponseStore | None = None,
) -> FastAPI:
    """The application of one `serve`. `formats` and `store` are what the settings ask for, if it is there already."""
    sources = [source_of(model, lifecycle, is_alone=len(settings.served) == 1) for model in settings.served]
    return assemble(
        directory=ModelDirectory(*sources),
        engine=lambda: lifecycle.engine,
        readiness=lifecycle,
        api_keys=settings.api_key,
        limits=Limits(
            max_logprobs=settings.max_logprobs,
            max_tokens_policy=settings.max_tokens_policy,
            max_open_per_client=settings.max_requests_per_client,
            is_strict=settings.strict_params,
            request_timeout_s=settings.request_timeout or None,
            keep_alive_s=settings.sse_keep_alive_interval or float("inf"),
        ),
        reply_defaults=ReplyDefaults(
            tokens_as_ids=settings.return_tokens_as_token_ids, counts_always=settings.enable_force_include_usage
        ),
        unlogged_paths=frozenset(settings.disable_access_log_for_endpoints),
        has_docs=not settings.disable_fastapi_docs,
        shows_tokenizer_info=settings.enable_tokenizer_info_endpoint,
        prompts=prompts,
        chat_options=ChatOptions(
            response_role=settings.response_role,
            hides_unused_tools=settings.exclude_tools_when_tool_choice_none,
            formats=formats or FormatChoice.of(settings),
            reasoning_field=settings.reasoning_field,
        ),
        store=store,
        max_background=settings.max_background_responses,
        lora_dirs=settings.lora_dir,
        max_adapters=settings.max_cpu_loras,
    )


def source_of(model: ServerSettings, lifecycle: Lifecycle, *, is_alone: bool) -> Source:
    """The life of a single model is that of the server."""
    if is_alone and not model.load_on_first_use:
        return Source(model.model_names, lambda: lifecycle.engine, model.generation_defaults)
    name = model.model_names[0]
    return Source(
        model.model_names,
        lambda: lifecycle.engine_of(name),
        model.generation_defaults,
        lambda: lifecycle.failure_of(name),
        lambda: lifecycle.on_demand(name),
        tuple(module.name for module in model.adapters),
    )


def assemble(
    *,
    directory: ModelDirectory,
    engine: Callable[[], Engine | None],
    readiness: Readiness,
    api_keys: Sequence[str] = (),
    limits: Limits | None = None,
    shows_tokenizer_info: bool = False,
    prompts: Prompts | None = None,
    chat_options: ChatOptions | None = None,
    reply_defaults: ReplyDefaults | None = None,
    store: ResponseStore | None = None,
    max_background: int = 64,
    grammar_budget: GrammarBudget | None = None,
    unlogged_paths: frozenset[str] = frozenset(),
    has_docs: bool = True,
    lora_dirs: Sequence[str] = (),
    max_adapters: int = 32,
) -> FastAPI:
    """`has_docs` publishes the document and pages that show it. Raises ContractError when a handler does not fit."""
    limits = limits or Limits()
    prompts = prompts or Prompts()
    grammars = GrammarChecker(engine, grammar_budget)
    preparation = ChatPreparation(prompts, limits, grammars, chat_options)
    chat = CompletionPreparation(directory, preparation)
    store = store or MemoryStore()
    background = BackgroundResponses(store, readiness.wait_for, max_background, limits.max_open_per_client)
    completions = Completions(directory, limits, grammars, reply_defaults)
    ranking = Ranking(directory, prompts)
    responses = Responses(ResponsePreparation(directory, preparation, store), store, background, reply_defaults)
    app = Application(title="specserve", redirect_slashes=False, openapi_url="/openapi.json" if has_docs else None)
    handlers = {
        "adapters": Adapters(directory, lora_dirs, max_adapters),
        "chat": ChatCompletions(chat, reply_defaults),
        "classify": Classify(directory, prompts),
        "cohere": Cohere(directory, ranking, limits),
        "completions": completions,
        "embeddings": Embeddings(directory, prompts, limits),
        "messages": Messages(MessagePreparation(directory, preparation)),
        "models": Models(directory),
        "pooling": Pooling(directory, prompts, limits),
        "responses": responses,
        "render": Render(chat, completions, prompts),
        "rerank": Rerank(ranking),
        "score": Score(directory, prompts),
        "server": Server(directory),
        "tokenization": Tokenization(directory, prompts, shows_info=shows_tokenizer_info),
    }
    mounted = mount(app, OPERATIONS, handlers, readiness=readiness, limits=limits)
    endpoint = mounted[RESPONSES].endpoints["POST"]
    sockets = Sockets({RESPONSES: SocketEndpoint(endpoint, lambda: ResponseSocket(responses))})
    way = StraightWay(mounted, sockets)
    app.is_straight = way.is_for
    guarded: ASGIApp = ApiKeyGuard(way, api_keys) if api_keys else way
    app.straight = RequestLog(guarded, unlogged_paths)
    published = published_document(has_keys=bool(api_keys))
    app.openapi = lambda: published  # type: ignore[method-assign]

    async def refuse_route(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        paths = [operation.path for operation in OPERATIONS.values()]
        refusal = route_error(error, method=request.method, path=request.url.path, known_paths=paths, has_docs=has_docs)
        envelope, request_id = envelope_of(request.url.path), request_identity(request.scope).id
        raw = error_bytes(refusal, envelope=envelope, request_id=request_id)
        return Response(raw, refusal.status, headers=dict(refusal.headers), media_type="application/json")

    app.add_exception_handler(HTTPException, refuse_route)
    if api_keys:
        app.add_middleware(ApiKeyGuard, keys=api_keys)
    app.add_middleware(RequestLog, unlogged_paths=unlogged_paths)
    return app


def published_document(*, has_keys: bool) -> dict[str, Any]:
    """The generated document; without a configured key it does not ask for one."""
    published: dict[str, Any] = json.loads(document())
    if not has_keys:
        published.pop("security", None)
        published.get("components", {}).pop("securitySchemes", None)
        for item in published["paths"].values():
            for operation in item.values():
                operation.pop("security", None)
    return published
