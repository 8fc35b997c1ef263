"""The parameters of a tool one by one, for formats that write them so: which are texts, and which are JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specserve.handlers.chat.tool_formats.parameter_types import MAX_DEPTH, types_of

Schema = Mapping[str, Any]
ANNOTATIONS = frozenset("title description default examples deprecated readOnly writeOnly $schema $comment $id".split())
OF_OBJECTS = frozenset("type properties required additionalProperties $defs definitions".split())
OF_TEXTS = frozenset("type enum const minLength maxLength".split())
MOST_CHARACTERS = 2000
"""Longer bounds of a text make automata that are too large."""


class NotWritable(Exception):
    """A format that writes parameters one by one cannot keep to this schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """schema   of the value, with the definitions it refers to
    is_text   written as it is, not as JSON
    types     JSON types that it may have; empty when nothing is known
    is_free   every value of these will do
    choices   what a text may be; empty: anything of `least` to `most` characters
    """

    name: str
    is_required: bool
    schema: Schema
    is_text: bool = False
    types: frozenset[str] = frozenset()
    is_free: bool = False
    choices: Sequence[str] = ()
    least: int = 0
    most: int | None = None


def plain_parameters(schema: Schema) -> list[Parameter]:
    """For formats that write texts as they are. Raises NotWritable."""
    definitions = definitions_of(schema)
    return [parameter_of(name, value, required, definitions) for name, value, required in properties_of(schema)]


def json_parameters(schema: Schema) -> list[Parameter]:
    """For formats that write every value as JSON, after a name. Raises NotWritable."""
    definitions = definitions_of(schema)
    found = []
    for name, value, required in properties_of(schema):
        if not name.isidentifier():
            raise NotWritable(name)
        check_references(value)
        whole = {**definitions, **value} if isinstance(value, Mapping) else {"allOf": [value]}
        types = frozenset(types_of(value, MAX_DEPTH, definitions))
        is_any = isinstance(value, Mapping) and is_free(value)
        choices = resolved(value, definitions).get("enum", ()) if types == {"string"} else ()
        found.append(
            Parameter(name=name, is_required=required, schema=whole, types=types, is_free=is_any, choices=choices)
        )
    return found


def scalar_parameters(schema: Schema) -> list[Parameter]:
    """For formats with a way of their own to write lists and objects. Raises NotWritable for these."""
    found = plain_parameters(schema)
    for parameter in found:
        allowed = {"string", "null"} if parameter.is_text else {"integer", "number", "boolean", "null"}
        if not parameter.types or not parameter.types <= allowed or not parameter.name.isidentifier():
            raise NotWritable(parameter.name)
    return found


def properties_of(schema: Schema) -> Iterator[tuple[str, Any, bool]]:
    """Name, schema and whether it is required, of an object that lists all it may have. Raises NotWritable."""
    if unknown := schema.keys() - OF_OBJECTS - ANNOTATIONS:
        raise NotWritable(min(unknown))
    properties = schema.get("properties") or {}
    if schema.get("additionalProperties") is not False:
        raise NotWritable("additionalProperties")
    required = frozenset(schema.get("required") or ())
    if not required <= properties.keys():
        raise NotWritable("required")
    for name, value in properties.items():
        yield name, value, name in required


def definitions_of(schema: Schema) -> Schema:
    return {name: schema[name] for name in ("$defs", "definitions") if name in schema}


def check_references(schema: Any) -> None:
    """Raises NotWritable for those that do not stay the same when a part of the schema is taken out."""
    for reference in references(schema):
        if not reference.startswith(("#/$defs/", "#/definitions/")):
            raise NotWritable("$ref")


def takes_anything(schema: Schema) -> bool:
    """Whether every object meets the schema."""
    return not (schema.keys() - {"type", "properties"} - ANNOTATIONS or schema.get("properties"))


def parameter_of(name: str, schema: Any, is_required: bool, definitions: Schema) -> Parameter:
    """Raises NotWritable for a value of which only its text would tell what it is."""
    if not isinstance(schema, Mapping):
        raise NotWritable(name)
    check_references(schema)
    whole = {**definitions, **schema}
    kinds = frozenset(types_of(schema, MAX_DEPTH, definitions))
    if "string" not in kinds:
        return Parameter(name=name, is_required=is_required, schema=whole, types=kinds)
    if is_free(schema):
        return Parameter(name=name, is_required=is_required, schema=whole, is_text=True, types=kinds, is_free=True)
    meant = resolved(schema, definitions)
    if kinds != {"string"} or meant.keys() - OF_TEXTS - ANNOTATIONS:
        raise NotWritable(name)
    choices = meant["enum"] if "enum" in meant else [meant["const"]] if "const" in meant else []
    least, most = meant.get("minLength", 0), meant.get("maxLength")
    if choices and (least or most is not None or any("<" in choice or choice != choice.strip() for choice in choices)):
        raise NotWritable(name)
    if max(least, most or 0) > MOST_CHARACTERS:
        raise NotWritable(name)
    return Parameter(
        name=name,
        is_required=is_required,
        schema=whole,
        is_text=True,
        types=kinds,
        choices=choices,
        least=least,
        most=most,
    )


def is_free(schema: Schema) -> bool:
    """Whether every value of one of its types will do."""
    if schema.keys() - {"type", "anyOf"} - ANNOTATIONS:
        return False
    options = schema.get("anyOf")
    if options is None:
        return "type" in schema
    return "type" not in schema and all(isinstance(option, Mapping) and is_free(option) for option in options)


def resolved(schema: Schema, definitions: Schema) -> Schema:
    """What the schema refers to, if it is nothing but a reference."""
    if schema.keys() - ANNOTATIONS != {"$ref"}:
        return schema
    _, place, name = str(schema["$ref"]).split("/", 2)
    target = definitions.get(place, {}).get(name)
    return target if isinstance(target, Mapping) else schema


def references(schema: Any) -> list[str]:
    if isinstance(schema, Mapping):
        own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
        return own + [found for value in schema.values() for found in references(value)]
    return [found for value in schema for found in references(value)] if isinstance(schema, list) else []
