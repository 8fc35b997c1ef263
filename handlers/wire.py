"""Bytes to generated schemas: read a JSON body, validate it strictly, explain what is wrong with it in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json, to_json
from starlette.types import Receive, Scope

from specserve.generated.base import ApiModel
from specserve.generated.errors import ApiError, InvalidRequest, RequestTooLarge
from specserve.handlers.errors import bounded

M = TypeVar("M", bound=ApiModel)

MAX_SHOWN_ERRORS = 3
MAX_SHOWN_CHARS = 80
SAFE_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")


class ClientGone(Exception):
    """The client left before its request was complete; there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int) -> bytes:
    """The whole body of a JSON request. Raises InvalidRequest, RequestTooLarge or ClientGone."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        sent = f"not {kind[:80]}" if kind else "and there is no Content-Type header"
        raise InvalidRequest(f"the body must be sent as Content-Type: application/json, {sent}")
    announced = headers.get(b"content-length", "")
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
    """The validated body, and the names of top-level keys the schema does not know.

    Raises InvalidRequest, with `param` the first place at fault, or RequestTooLarge when nested too deeply.
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
        try:  # JSON has one kind of number: 5.0 is an integer too
            body = schema.model_validate(with_whole_numbers(data))
        except ValidationError as second:
            raise invalid(second, data) from None
    return body, [key for key in data if key not in known_keys(schema)]


@cache
def known_keys(schema: type[ApiModel]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in schema.model_fields.items())


def header_of_names(names: Sequence[str]) -> str:
    """Names chosen by a client, as a header value: only those that cannot be mistaken for anything else."""
    return ",".join([name for name in names if SAFE_NAME.fullmatch(name)][:16])


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


def details(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False)


def invalid(error: ValidationError, data: dict[str, Any]) -> InvalidRequest:
    """One refusal for all violations: the first field at fault in `param`, at most three explained."""
    places = list(violations(error, data))
    shown = "; ".join(f"{path} {what}" for path, what in places[:MAX_SHOWN_ERRORS])
    more = f"; and {len(places) - MAX_SHOWN_ERRORS} more" if len(places) > MAX_SHOWN_ERRORS else ""
    return InvalidRequest(bounded(shown + more), param=places[0][0][:200])


def violations(error: ValidationError, data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(dotted path, sentence) for each top-level field at fault, in the schema's order: the first place in it.

    A value that may have several shapes reports violations for each of them. The shape that was meant is taken to
    be the one that fits furthest into the value; shapes that fail at the same place are told together, unless one
    of them got as far as to a rule about the value.
    """
    by_field: dict[str, list[tuple[Place, ErrorDetails]]] = {}
    for detail in details(error):
        place = place_of(detail, data)
        by_field.setdefault(str(place.path[0]) if place.path else "body", []).append((place, detail))
    for field, found in by_field.items():
        first = found[0][0]
        prefix = first.path[: first.num_before_shapes]
        rivals = [(place.path, detail) for place, detail in found if place.path[: len(prefix)] == prefix]
        path = max((path for path, _ in rivals), key=depth)
        here = [detail for where, detail in rivals if where == path]
        ruled = [detail for detail in here if not detail["type"].endswith("_type")] or here
        wanted = list(dict.fromkeys(sentence(detail) for detail in ruled))
        yield ".".join(str(part)[:64] for part in path) or field, " or ".join(wanted) + sent(ruled[0])


def depth(path: tuple[str | int, ...]) -> tuple[int, tuple[int, ...]]:
    """How far into a value: more steps first, then later entries."""
    return len(path), tuple(part for part in path if isinstance(part, int))


def sent(detail: ErrorDetails) -> str:
    """What was found instead, as the end of a sentence."""
    if detail["type"] in ("missing", "union_tag_not_found"):
        return ""
    return f", not {described(detail['ctx']['tag'] if detail['type'] == 'union_tag_invalid' else detail['input'])}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a violation is: the real steps to it, without the names of shapes that the validator puts between them.

    `num_before_shapes` real steps come before the first such name; all of them when there is none.
    """

    path: tuple[str | int, ...]
    num_before_shapes: int


def place_of(detail: ErrorDetails, data: Any) -> Place:
    path: list[str | int] = []
    num_before_shapes: int | None = None
    steps = detail["loc"]
    for position, step in enumerate(steps):
        is_entry = isinstance(data, dict) and step in data
        is_item = isinstance(data, list) and isinstance(step, int) and step < len(data)
        if is_entry or is_item:
            data = data[step]
            path.append(step)
        elif position == len(steps) - 1 and detail["type"] == "missing":
            path.append(step)
        elif num_before_shapes is None:
            num_before_shapes = len(path)
    if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path.append(str(detail["ctx"]["discriminator"]).strip("'"))
    return Place(tuple(path), len(path) if num_before_shapes is None else num_before_shapes)


def sentence(detail: ErrorDetails) -> str:
    """What the value must be, in words that do not name the validator."""
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing" | "union_tag_not_found":
            return "is required"
        case "string_type":
            return "must be a string"
        case "int_type" | "int_from_float":
            return "must be an integer"
        case "float_type":
            return "must be a number"
        case "finite_number":
            return "must be a finite number"
        case "bool_type":
            return "must be true or false"
        case "list_type":
            return "must be an array"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "must be an object"
        case "none_required":
            return "must be null"
        case "greater_than_equal":
            return f"must be at least {plain(context['ge'])}"
        case "less_than_equal":
            return f"must be at most {plain(context['le'])}"
        case "greater_than":
            return f"must be greater than {plain(context['gt'])}"
        case "less_than":
            return f"must be less than {plain(context['lt'])}"
        case "too_short":
            return f"must have at least {context['min_length']} entries"
        case "too_long":
            return f"must have at most {context['max_length']} entries"
        case "string_too_short":
            return f"must have at least {context['min_length']} characters"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "string_pattern_mismatch":
            return f"must match the pattern {context['pattern']}"
        case "literal_error":
            return f"must be {context['expected']}"
        case "union_tag_invalid":
            return f"must be one of {context['expected_tags']}"
    return "does not have the documented shape"


def plain(limit: float) -> str:
    """A limit without exponent or needless decimals."""
    return str(int(limit)) if limit == int(limit) else str(limit)


def described(value: object) -> str:
    """A value as JSON would name it, short enough to be quoted."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() if value.bit_length() > 256:
            return "a number of that size"
        case int() | float():
            text = repr(value)
        case str():
            text = to_json(value[:MAX_SHOWN_CHARS]).decode()
        case list():
            return f"an array of {len(value)}"
        case dict():
            return "an object"
        case _:
            return "that"
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "…"
