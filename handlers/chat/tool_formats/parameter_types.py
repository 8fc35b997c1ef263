"""What a parameter written as plain text means, by the schema of the tool that has it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from specserve.handlers.chat.conversation import Tool

ORDER = ("null", "integer", "number", "boolean", "object", "array", "string")
"""The order in which the types of a parameter with several are tried."""
INTEGER = re.compile(r"[+-]?[0-9]{1,300}")
NUMBER = re.compile(r"[+-]?[0-9]{0,300}\.?[0-9]{0,300}(?:[eE][+-]?[0-9]{1,3})?")
EXACT = 2**53
NAME_OF = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
MAX_DEPTH = 8


class ParameterTypes:
    """The JSON types that the parameters of a request's tools may have."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._properties: dict[str, Mapping[str, Any]] = {}
        self._definitions: dict[str, Mapping[str, Any]] = {}
        for tool in tools:
            function = tool.get("function", tool)
            parameters = function.get("parameters") or {}
            properties = parameters.get("properties")
            if isinstance(properties, Mapping):
                self._properties[function.get("name", "")] = properties
                self._definitions[function.get("name", "")] = parameters

    def of(self, function: str, parameter: str) -> frozenset[str]:
        """Empty when nothing is known."""
        schema = self._properties.get(function, {}).get(parameter)
        return frozenset(types_of(schema, MAX_DEPTH, self._definitions.get(function, {})))


def types_of(schema: object, depth: int, definitions: Mapping[str, Any]) -> set[str]:
    """`definitions` is the schema whose $defs are referred to."""
    if not isinstance(schema, Mapping) or not depth:
        return set()
    if isinstance(reference := schema.get("$ref"), str):
        place, _, name = reference.removeprefix("#/").partition("/")
        listed = definitions.get(place)
        target = listed.get(name) if isinstance(listed, Mapping) else None
        return types_of(target, depth - 1, definitions)
    declared = schema.get("type")
    found = {declared} if isinstance(declared, str) else set(declared) if isinstance(declared, list) else set()
    if found:
        return {name for name in found if name in ORDER}
    for keyword in ("anyOf", "oneOf", "allOf"):
        options = schema.get(keyword)
        for option in options if isinstance(options, list) else ():
            found |= types_of(option, depth - 1, definitions)
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(values, list):
        found |= {NAME_OF.get(type(value), "object") for value in values}
    return found


def json_of_text(text: str, types: frozenset[str]) -> str:
    """The parameter as JSON text: of the first type that fits, else as any JSON, else as a string."""
    for kind in ORDER:
        if kind in types and (found := as_type(text.strip(), kind)) is not None:
            return found
    if "string" not in types and (found := as_json(text.strip(), (dict, list, str, int, float, bool, type(None)))):
        return found
    return json.dumps(text, ensure_ascii=False)


def as_type(text: str, kind: str) -> str | None:
    """JSON text, or None if the text is not of this type."""
    if kind == "null":
        return "null" if text.lower() == "null" else None
    if kind == "integer":
        return str(int(text)) if INTEGER.fullmatch(text) else None
    if kind == "number":
        return as_number(text)
    if kind == "boolean":
        return {"true": "true", "1": "true", "false": "false", "0": "false"}.get(text.lower())
    if kind in ("object", "array"):
        return as_json(text, (dict,) if kind == "object" else (list,))
    return None


def as_number(text: str) -> str | None:
    if INTEGER.fullmatch(text):
        return str(int(text))
    if not NUMBER.fullmatch(text):
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) < EXACT else repr(value)


def as_json(text: str, kinds: tuple[type, ...]) -> str | None:
    """The text itself if it is JSON of one of these kinds, with finite numbers only."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return text if isinstance(value, kinds) else None
