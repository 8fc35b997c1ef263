"""How an error is written: one JSON form per family of clients, chosen by the path it is answered on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import to_json

from specserve.generated.errors import TYPES, ApiError
from specserve.generated.operations import OPERATIONS

MAX_ERROR_BYTES = 8000
"""An envelope stays below 8 kB, whatever a client makes us quote."""
MAX_SHORT_CHARS = 350
OPENAI, MESSAGES, COHERE = "", "Messages", "Cohere"
"""Names of envelopes, as operations have them in `errors`."""

Form = Callable[[ApiError, str], dict[str, Any]]


def openai_form(error: ApiError, request_id: str) -> dict[str, Any]:
    return error.body()


def messages_form(error: ApiError, request_id: str) -> dict[str, Any]:
    """What clients of Anthropic Messages read; `param` and `code` are beside what they know."""
    body = error.body()["error"] | {"type": type_in(MESSAGES, error)}
    return {"type": "error", "error": body, "request_id": request_id or None}


def cohere_form(error: ApiError, request_id: str) -> dict[str, Any]:
    """OpenAI's, and the sentence where clients of Cohere (`message`) and Jina (`detail`) look for it."""
    return error.body() | {"message": error.message, "detail": error.message}


def type_in(envelope: str, error: ApiError) -> str:
    """What the envelope calls this error. A response the envelope does not know keeps its type."""
    types = TYPES[envelope]
    return next((types[kind] for kind in type(error).__mro__ if kind in types), error.type)


FORMS: Mapping[str, Form] = {OPENAI: openai_form, MESSAGES: messages_form, COHERE: cohere_form}
PATHS: Mapping[str, str] = {operation.path: operation.errors for operation in OPERATIONS.values()}
"""The envelope of each path."""
TAILS: Mapping[str, str] = {path.rsplit("/", 1)[1]: envelope for path, envelope in PATHS.items() if envelope}
"""Envelopes by the last word of a path: base URLs are prone to slips, such as a doubled /v1."""
ROOTS = tuple((f"{path}/", envelope) for path, envelope in PATHS.items() if envelope)


def envelope_of(path: str) -> str:
    """That of the operation; a path below an operation's that leads nowhere was meant for the same clients."""
    found = PATHS.get(path)
    if found is None:
        by_tail = TAILS.get(path.rstrip("/").rsplit("/", 1)[-1], OPENAI)
        found = next((envelope for root, envelope in ROOTS if path.startswith(root)), by_tail)
    return found


def error_bytes(error: ApiError, *, envelope: str = OPENAI, request_id: str = "") -> bytes:
    """The envelope, cut to MAX_ERROR_BYTES: a character may take six bytes in JSON."""
    form = FORMS[envelope]
    raw = to_json(form(error, request_id))
    if len(raw) > MAX_ERROR_BYTES:
        param = error.param and error.param[:200]
        raw = to_json(form(type(error)(f"{error.message[:MAX_SHORT_CHARS]}…", param=param), request_id))
    return raw
