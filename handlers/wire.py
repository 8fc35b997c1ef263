"""Bytes to generated schemas: read a JSON body, validate it strictly, explain what is wrong with it in plain words."""

from __future__ import annotations

import re
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import ValidationError
from pydantic_core import from_json

from specserve.generated.base import ApiModel
from specserve.generated.errors import ApiError, InvalidRequest, RequestTooLarge
from specserve.handlers.errors import bounded
from specserve.handlers.repeated_parts import RepeatedParts
from specserve.handlers.unknown_fields import unknown_keys
from specserve.handlers.violations import described, details, invalid

M = TypeVar("M", bound=ApiModel)
INTEGER = re.compile(r"-?[0-9]{1,18}")


repeated = RepeatedParts()


def parse_body(raw: bytes, schema: type[M]) -> tuple[M, list[str]]:
    """The validated body, and the dotted paths of keys that the schema does not know.

    Raises InvalidRequest when it is no JSON object, RequestTooLarge when it is nested too deeply, else what
    `violations.invalid` finds.
    """
    return parse_object(read_object(raw), schema)


def read_object(raw: bytes) -> dict[str, Any]:
    """Raises InvalidRequest when it is no JSON object, RequestTooLarge when it is nested too deeply."""
    try:
        data: Any = from_json(raw, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise malformed(raw, str(error)) from None
    if not isinstance(data, dict):
        raise InvalidRequest(f"the body must be a JSON object, not {described(data)}")
    return data


def parse_object(data: dict[str, Any], schema: type[M]) -> tuple[M, list[str]]:
    """As `parse_body`, for what has been read already. Raises what `violations.invalid` finds."""
    part = repeated.find(data, schema)
    try:
        body = without_unknown_keys(data if part is None else part.within(data), schema)
    except ValidationError:
        pass  # an unknown key, or what is explained below, in the words for what was sent
    else:
        if part is not None and part.value is None:
            repeated.keep(part, body)
        return body, []
    if part is not None and part.value is not None:
        try:
            body = validated(part.within(data), schema)
        except ValidationError:
            pass
        else:
            return body, unknown_keys(data, body)
    try:
        body = validated(data, schema)
    except ValidationError as error:
        if not any(e["type"] == "int_type" and isinstance(e["input"], float) for e in details(error)):
            raise invalid(error, data) from None
        data = with_whole_numbers(data)  # JSON has one kind of number: 5.0 is an integer too
        try:
            body = schema.model_validate(data)
        except ValidationError as second:
            raise invalid(second, data) from None
    return body, unknown_keys(data, body)


def without_unknown_keys(data: dict[str, Any], schema: type[M]) -> M:
    """As `validated` reads it. Raises ValidationError for unknown keys too, at any depth.

    To have them looked for on the way costs next to nothing; most bodies have none.
    """
    body: M = schema.__pydantic_validator__.validate_python(data, extra="forbid")
    return body


def validated(data: dict[str, Any], schema: type[M]) -> M:
    """As `model_validate` without its options."""
    body: M = schema.__pydantic_validator__.validate_python(data)
    return body


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
