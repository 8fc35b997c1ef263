"""The one table from exceptions to errors of the contract. The engine raises meaning; here it gets status and code."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Mapping
from math import ceil

from starlette.exceptions import HTTPException
from starlette.types import Send

from specserve.engine import errors as engine_errors
from specserve.generated.errors import (
    ApiError,
    ContextLengthExceeded,
    EngineDead,
    InternalError,
    InvalidConstraint,
    InvalidRequest,
    ModelNotFound,
    RouteNotFound,
    ServerOverloaded,
    TokenOutOfVocabulary,
    UnsupportedValue,
    WrongMethod,
)
from specserve.handlers.envelopes import OPENAI, error_bytes

logger = logging.getLogger(__name__)

MAX_MESSAGE_CHARS = 2000
INSIDES = re.compile(r"(?<![\w/.:])(?:~|\.{1,2})?/(?:[\w.@+\-]+/)+[\w.@+\-]*|\b0x[0-9a-fA-F]{4,}\b|<class '[^']*'>")
"""Paths of this machine, addresses and types of objects: of no use to a client."""

ENGINE_ERRORS: Mapping[type[engine_errors.EngineError], type[ApiError]] = {
    engine_errors.TokenOutOfVocabularyError: TokenOutOfVocabulary,
    engine_errors.InvalidParameterError: UnsupportedValue,
    engine_errors.GrammarError: InvalidConstraint,
    engine_errors.PromptTooLongError: ContextLengthExceeded,
    engine_errors.UnsupportedFeatureError: UnsupportedValue,
    engine_errors.UnknownModelError: ModelNotFound,
    engine_errors.RequestError: UnsupportedValue,
    engine_errors.OverloadedError: ServerOverloaded,
    engine_errors.EngineDeadError: EngineDead,
}


def to_api_error(error: Exception, *, request_id: str) -> ApiError:
    """Any exception as the answer the client gets. What nobody foresaw is logged and told without details."""
    if isinstance(error, ApiError):
        return error
    for kind in type(error).__mro__:
        known = ENGINE_ERRORS.get(kind)
        if known is not None:
            headers = {"Retry-After": str(ceil(getattr(error, "retry_after_s", 1)))} if known.retryable else {}
            return known(bounded(cleaned(str(error))), param=getattr(error, "param", None), headers=headers)
    logger.error("request_id=%s failed", request_id, exc_info=error)
    return InternalError(f"something failed inside the server; its log has the details under request id {request_id}")


def cleaned(message: str) -> str:
    """A message that was written for the operator, fit for a client."""
    return INSIDES.sub("…", message)


def bounded(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE_CHARS else message[: MAX_MESSAGE_CHARS - 1] + "…"


def route_error(
    error: HTTPException, *, method: str, path: str, known_paths: Iterable[str], has_docs: bool = True
) -> ApiError:
    """The router's own 404 and 405 in our envelope, with the path that was probably meant."""
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        return WrongMethod(f"{path[:200]} does not take {method}, it takes {allow}", headers=error.headers)
    if error.status_code == 404:
        near = near_path(path, tuple(known_paths))
        advice = (
            f"did you mean {near}?"
            if near
            else "/openapi.json lists what there is, /docs shows it"
            if has_docs
            else "this server lists none"
        )
        return RouteNotFound(f"there is no path {path[:200]}; {advice}")
    return InvalidRequest(bounded(str(error.detail)), headers=error.headers)


def near_path(path: str, known_paths: tuple[str, ...]) -> str | None:
    """Undoes the slips base URLs are prone to (doubled or missing /v1, a trailing slash), else the closest spelling."""
    parts = [part for part in path.lower().split("/") if part and part != "v1"]
    tail = "/" + "/".join(parts)
    for candidate in (f"/v1{tail}", tail):
        if candidate in known_paths:
            return candidate
    close = difflib.get_close_matches(path[:200], known_paths, n=1, cutoff=0.7)
    return close[0] if close else None


async def send_error(
    send: Send,
    error: ApiError,
    headers: Mapping[str, str] | None = None,
    *,
    envelope: str = OPENAI,
    request_id: str = "",
) -> None:
    """Answer with the error. Nothing may have been sent before."""
    body = error_bytes(error, envelope=envelope, request_id=request_id)
    head = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **(headers or {}),
        **{name.lower(): value for name, value in error.headers.items()},
    }
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
