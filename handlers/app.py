"""The HTTP application: the contract's operations over one engine that may still be loading. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from specserve.engine.api import Engine, ModelInfo, Tokenizer
from specserve.engine.generation_config import read_generation_defaults
from specserve.generated import document
from specserve.generated.operations import OPERATIONS
from specserve.handlers.auth import ApiKeyGuard
from specserve.handlers.chat.template import ChatTemplate
from specserve.handlers.context import Readiness
from specserve.handlers.errors import error_bytes, route_error
from specserve.handlers.extras.tokenization import Tokenization
from specserve.handlers.lifecycle import Lifecycle
from specserve.handlers.limits import Limits
from specserve.handlers.middleware import RequestLog
from specserve.handlers.model_directory import ModelDirectory
from specserve.handlers.openai.chat_completions import ChatCompletions
from specserve.handlers.openai.completions import Completions
from specserve.handlers.openai.models import Models
from specserve.handlers.ops.server import Server
from specserve.handlers.routing import mount
from specserve.handlers.sampling import GenerationDefaults
from specserve.handlers.settings import ServerSettings


def create_app(lifecycle: Lifecycle, settings: ServerSettings) -> FastAPI:
    """The application of one `serve`."""
    directory = ModelDirectory(
        settings.model_names, lambda: lifecycle.engine, defaults=DefaultsOf(settings.generation_config)
    )
    return assemble(
        directory=directory,
        engine=lambda: lifecycle.engine,
        readiness=lifecycle,
        api_keys=settings.api_key,
        limits=Limits(max_logprobs=settings.max_logprobs),
        chat_template=settings.chat_template,
        shows_tokenizer_info=settings.enable_tokenizer_info_endpoint,
    )


def assemble(
    *,
    directory: ModelDirectory,
    engine: Callable[[], Engine | None],
    readiness: Readiness,
    api_keys: Sequence[str] = (),
    limits: Limits | None = None,
    chat_template: str | None = None,
    shows_tokenizer_info: bool = False,
) -> FastAPI:
    """`chat_template` replaces the tokenizer's. Raises ContractError when a handler does not fit the contract."""
    limits = limits or Limits()
    template = TemplateOf(chat_template)
    app = FastAPI(title="specserve", redirect_slashes=False)
    handlers = {
        "chat": ChatCompletions(directory, template, limits),
        "completions": Completions(directory, limits),
        "models": Models(directory),
        "server": Server(engine),
        "tokenization": Tokenization(directory, template, chat_template=chat_template, shows_info=shows_tokenizer_info),
    }
    mount(app, OPERATIONS, handlers, readiness=readiness, limits=limits)
    published = published_document(has_keys=bool(api_keys))
    app.openapi = lambda: published  # type: ignore[method-assign]

    async def refuse_route(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        paths = [operation.path for operation in OPERATIONS.values()]
        refusal = route_error(error, method=request.method, path=request.url.path, known_paths=paths)
        return Response(
            error_bytes(refusal), refusal.status, headers=dict(refusal.headers), media_type="application/json"
        )

    app.add_exception_handler(HTTPException, refuse_route)
    if api_keys:
        app.add_middleware(ApiKeyGuard, keys=api_keys)
    app.add_middleware(RequestLog)
    return app


class DefaultsOf:
    """Sampling defaults, read once the model is there: `auto` from its folder, `vllm` none, else from that folder."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._read: GenerationDefaults | None = None

    def __call__(self, model: ModelInfo) -> GenerationDefaults:
        if self._read is None:
            folder = model.path if self._source == "auto" else self._source
            values = {} if self._source == "vllm" else read_generation_defaults(folder)
            self._read = GenerationDefaults.of(values)
        return self._read


class TemplateOf:
    """The chat template, compiled at the first request that needs it."""

    def __init__(self, source: str | None) -> None:
        self._source = source
        self._compiled: ChatTemplate | None = None

    def __call__(self, tokenizer: Tokenizer) -> ChatTemplate | None:
        source = self._source or tokenizer.chat_template
        if self._compiled is None and source is not None:
            self._compiled = ChatTemplate(source, tokenizer.special_tokens)
        return self._compiled


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
