"""Bytes to generated schemas: read a JSON body, validate it strictly, explain what is wrong with it in plain words."""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.types import Receive, Scope

from specserve.generated.base import ApiModel
from specserve.generated.errors import ApiError, InvalidRequest, RequestTooLarge, WrongMediaType
from specserve.handlers.errors import bounded
from specserve.handlers.unknown_fields import unknown_keys
from specserve.handlers.violations import described, details, invalid

M = TypeVar("M", bound=ApiModel)
INTEGER = re.compile(r"-?[0-9]{1,18}")


class ClientGone(Exception):
    """The client left before its request was complete; there is nobody to answer."""


class OpenBodies:
    """The bodies that are on their way in. None may take for ever, and none keeps a server that drains from ending."""

    def __init__(self, *, max_bytes: int, timeout_s: float) -> None:
        self._max_bytes, self._timeout_s = max_bytes, timeout_s
        self._deadlines: set[asyncio.Timeout] = set()

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """Raises what `read_body` does, and TimeoutError at the deadline or when the bodies are given up."""
        async with asyncio.timeout(self._timeout_s) as deadline:
            self._deadlines.add(deadline)
            try:
                return await read_body(scope, receive, max_bytes=self._max_bytes)
            finally:
                self._deadlines.discard(deadline)

    def give_up(self) -> None:
        """Wait for no more pieces of those that are not complete."""
        now = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            deadline.reschedule(now)


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int) -> bytes:
    """The whole body of a JSON request. Raises WrongMediaType, RequestTooLarge or ClientGone."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if kind != "application/json":
        sent = f"not {kind[:80]}" if kind else "and there is no Content-Type header"
        raise WrongMediaType(f"the body must be sent as Content-Type: application/json, {sent}")
    announced = headers.get(b"content-length", b"").decode("latin-1")
    if announced.isdigit() and int(announced[:20]) > max_bytes:
        raise too_large(f"{announced[:20]} bytes", max_bytes)
    pieces = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        pieces += message.get("body", b"")
        if len(pieces) > max_bytes:
            raise too_large("more", max_bytes)
        if not message.get("more_body", False):
            return bytes(pieces)


def too_large(size: str, max_bytes: int) -> RequestTooLarge:
    # The rest of the body will not be read, so the connection cannot carry another request.
    return RequestTooLarge(
        f"the body has {size}, the limit is {max_bytes} bytes; send less at once", headers={"Connection": "close"}
    )


def parse_body(raw: bytes, schema: type[M]) -> tuple[M, list[str]]:
    """The validated body, and the dotted paths of keys that the schema does not know.

    Raises InvalidRequest when it is no JSON object, RequestTooLarge when it is nested too deeply, else what
    `violations.invalid` finds.
    """
    try:
        data: Any = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise malformed(raw, str(error)) from None
    if not isinstance(data, dict):
        raise InvalidRequest(f"the body must be a JSON object, not {described(data)}")
    try:
        body = schema.model_validate(data)
    except ValidationError as error:
        if not any(e["type"] == "int_type" and isinstance(e["input"], float) for e in details(error)):
            raise invalid(error, data) from None
        data = with_whole_numbers(data)  # JSON has one kind of number: 5.0 is an integer too
        try:
            body = schema.model_validate(data)
        except ValidationError as second:
            raise invalid(second, data) from None
    return body, unknown_keys(data, body)


def parse_query(raw: bytes, schema: type[M]) -> tuple[M, list[str]]:
    """The validated query string, and its names that the schema does not know; the last of several values counts.

    Lists are repeated names, with or without brackets. What is no text there is written as in JSON.
    Raises what `violations.invalid` finds.
    """
    sent: dict[str, list[str]] = {}
    for name, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True):
        sent.setdefault(name.removesuffix("[]"), []).append(value)
    data: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        if (values := sent.get(name)) is not None:
            data[name] = values if "list[" in str(field.annotation) else read_value(values[-1], field.annotation)
    try:
        query = schema.model_validate(data)
    except ValidationError as error:
        raise invalid(error, data) from None
    return query, [name for name in sent if name not in schema.model_fields]


def read_value(text: str, annotation: object) -> Any:
    """`true` and `12` are no texts where the field takes none; whatever else they are not is for the schema to say."""
    if "str" in str(annotation):
        return text
    if text in ("true", "false"):
        return text == "true"
    return int(text) if INTEGER.fullmatch(text) else text


def malformed(raw: bytes, reason: str) -> ApiError:
    if not raw.strip():
        return InvalidRequest("the body is empty; send a JSON object")
    if "recursion limit" in reason:
        return RequestTooLarge("the body is nested deeper than 200 levels, the limit; flatten it")
    # The parser ends with "at line 1 column 7", which is what a person needs.
    return InvalidRequest(bounded(f"the body is not valid JSON: {reason}"))


def with_whole_numbers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [with_whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: with_whole_numbers(item) for key, item in value.items()}
    return value
