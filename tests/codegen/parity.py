"""A client's types beside the schemas of the document: what the client knows and the document lacks.

Both kinds of types are walked: TypedDicts and method signatures for what a client sends, pydantic models for what it
reads. A field, a literal, a union branch, a JSON type that the document lacks is a gap; so is a request field that the
document insists on and the client may leave out, or one it does not insist on and the client always sends.
"""

import collections.abc
import inspect
import json
import os
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import typing_extensions as te
from pydantic import BaseModel

from specserve.generated import document

DOCUMENT = json.loads(document())
JSON, EVENTS = "application/json", "text/event-stream"


# ---- one form for both sides ---------------------------------------------------------------------
@dataclass
class Shape:
    """What a value may be. `plain` are JSON types; objects are only looked into when they are compared.

    `is_open`: any object is taken, with whatever it has.
    """

    plain: set[str] = field(default_factory=set)
    literals: set[object] = field(default_factory=set)
    objects: list["Fields"] = field(default_factory=list)
    items: list[Callable[[], "Shape"]] = field(default_factory=list)
    is_open: bool = False

    def add(self, other: "Shape") -> None:
        self.plain |= other.plain
        self.literals |= other.literals
        self.objects += other.objects
        self.items += other.items
        self.is_open |= other.is_open


@dataclass
class Fields:
    """An object: name → (shape, required). `key` tells apart what has been compared already."""

    key: str
    fields: dict[str, tuple[Callable[[], Shape], bool]]

    def tags(self) -> dict[str, set[object]]:
        """The literals by which unions tell their branches apart."""
        found = {name: self.fields[name][0]().literals for name in ("type", "role", "object") if name in self.fields}
        return {name: values for name, values in found.items() if values}


def merged(shapes: typing.Iterable[Callable[[], Shape]]) -> Shape:
    whole = Shape()
    for shape in shapes:
        whole.add(shape())
    return whole


PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", object: "any"}


def of_python(hint: Any) -> Shape:
    """From a type annotation of the client."""
    origin, arguments = te.get_origin(hint), te.get_args(hint)
    if isinstance(hint, te.TypeAliasType):
        return of_python(hint.__value__)
    if origin in (te.Annotated, te.Required, te.NotRequired):
        return of_python(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return merged([lambda part=part: of_python(part) for part in arguments])
    if origin is te.Literal:
        return Shape(literals=set(arguments))
    if hint is Any or hint in PLAIN:
        return Shape(plain={PLAIN.get(hint, "any")})
    if origin in (dict, collections.abc.Mapping):
        return Shape(plain={"map"})
    if origin in (list, collections.abc.Iterable, collections.abc.Sequence) or "SequenceNotStr" in str(origin):
        return Shape(items=[lambda: of_python(arguments[0])])
    if te.is_typeddict(hint) or (isinstance(hint, type) and issubclass(hint, BaseModel)):
        return Shape(objects=[Fields(str(hint), fields_of(hint))])
    if hint in (datetime, os.PathLike) or origin in (typing.IO, os.PathLike):  # written as text
        return Shape(plain={"string"})
    raise AssertionError(f"a form of annotation this test does not know: {hint!r}")


def of_method(method: Callable[..., Any], *left_out: str) -> Shape:
    """The keyword arguments of a client's method, as the object that it sends."""
    hints = typing.get_type_hints(method)
    arguments = {
        name: (lambda hint=hints[name]: of_python(hint), argument.default is inspect.Parameter.empty)
        for name, argument in inspect.signature(method).parameters.items()
        if name not in ("self", *left_out)
    }
    return Shape(objects=[Fields(method.__qualname__, arguments)])


def fields_of(kind: Any) -> dict[str, tuple[Callable[[], Shape], bool]]:
    if not te.is_typeddict(kind):
        return {
            info.alias or name: (lambda info=info: of_python(info.annotation), info.is_required())
            for name, info in kind.model_fields.items()
        }
    found = {}
    for name, hint in te.get_type_hints(kind, include_extras=True).items():
        mark = te.get_origin(hint)  # postponed annotations hide it from __required_keys__
        required = mark is te.Required or (mark is not te.NotRequired and name in kind.__required_keys__)
        found[name] = (lambda hint=hint: of_python(hint), required)
    return found


def of_document(schema: Any) -> Shape:
    """From a schema of the published document, in which objects list all their properties themselves."""
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    shape = merged([lambda part=part: of_document(part) for part in schema.get("anyOf", []) + schema.get("oneOf", [])])
    kinds = schema.get("type", [])
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    if "const" in schema or "enum" in schema:
        shape.literals |= {value for value in schema.get("enum", [schema.get("const")]) if value is not None}
        shape.plain |= kinds & {"null"}
        return shape
    if "array" in kinds:
        shape.items.append(lambda: of_document(schema.get("items", {})))
    shape.is_open |= schema.get("additionalProperties") is True
    if properties := schema.get("properties"):
        needed = schema.get("required", [])
        entries = {name: (lambda part=part: of_document(part), name in needed) for name, part in properties.items()}
        shape.objects.append(Fields(str(id(schema)), entries))
    elif "object" in kinds:
        shape.plain.add("map")
    shape.plain |= kinds - {"array", "object"}
    if not (kinds or shape.plain or shape.objects or shape.items or shape.literals):
        shape.plain.add("any")
    return shape


# ---- comparison ----------------------------------------------------------------------------------
def gaps(client: Shape, ours: Shape, place: str, is_request: bool, seen: set[tuple[str, str]]) -> Iterator[str]:
    """What the client's shape has and ours lacks."""
    if "any" in ours.plain:
        return
    for literal in sorted(client.literals - ours.literals, key=str):
        if PLAIN[type(literal)] not in ours.plain:
            yield f"{place} lacks the value {literal!r}"
    for plain in sorted(client.plain - ours.plain - {"any"}):
        if plain == "null" and not is_request:
            continue  # the client can read null; we need not send it
        is_known = {
            "integer": "number" in ours.plain,
            "string": not is_request and bool(ours.literals),  # the client reads any text, we send some
            "map": bool(ours.objects) or ours.is_open,
        }
        if not is_known.get(plain, False):
            yield f"{place} lacks the type {plain}"
    if client.items and not ours.items:
        yield f"{place} lacks the type array"
    elif client.items:
        yield from gaps(merged(client.items), merged(ours.items), f"{place}[]", is_request, seen)
    for theirs in client.objects:
        if not (ours.is_open and not tagged(theirs, ours.objects)):
            yield from object_gaps(theirs, ours.objects, place, is_request, seen)


def object_gaps(
    theirs: Fields, ours: list[Fields], place: str, is_request: bool, seen: set[tuple[str, str]]
) -> Iterator[str]:
    matches = counterparts(theirs, ours)
    label = "/".join(str(value) for values in theirs.tags().values() for value in sorted(values, key=str))
    here = f"{place}<{label}>" if label and len(ours) > 1 else place
    if not matches:
        yield f"{here} lacks the object {theirs.key.rsplit('.', 1)[-1]}"
        return
    pair = (theirs.key, "|".join(sorted(match.key for match in matches)))
    if pair in seen:
        return
    seen.add(pair)
    for name, (shape, is_needed) in theirs.fields.items():
        found = [match.fields[name] for match in matches if name in match.fields]
        if not found:
            yield f"{here}.{name} is missing"
            continue
        insists = all(required for _, required in found)
        if is_request and insists and not is_needed:
            yield f"{here}.{name} is required here, the client may leave it out"
        if not is_request and is_needed and not insists:
            yield f"{here}.{name} is optional here, the client relies on it"
        yield from gaps(shape(), merged([part for part, _ in found]), f"{here}.{name}", is_request, seen)


def tagged(theirs: Fields, ours: list[Fields]) -> bool:
    """Whether one of our objects says by its tags that it is theirs; an open one besides is for what nobody knows."""
    tags = theirs.tags()
    return any(
        one.tags().keys() & tags.keys()
        and all(one.tags()[name] & tags[name] for name in one.tags().keys() & tags.keys())
        for one in ours
    )


def counterparts(theirs: Fields, ours: list[Fields]) -> list[Fields]:
    """Our objects that stand for theirs: those that share its tags, or all of them when it has none."""
    tags = theirs.tags()
    fitting = []
    for candidate in ours:
        own = candidate.tags()
        if all(own[name] & tags[name] for name in own.keys() & tags.keys()):
            fitting.append(candidate)
    tagged = [candidate for candidate in fitting if candidate.tags().keys() & tags.keys()]
    return tagged or fitting


def schema_of(method: str, path: str, part: str) -> Any:
    operation = DOCUMENT["paths"][path][method]
    if part == "request":
        return operation["requestBody"]["content"][JSON]["schema"]
    content = operation["responses"]["200"]["content"][part]
    if part == JSON:
        return content["schema"]
    event = DOCUMENT["components"]["schemas"][content["itemSchema"]["$ref"].rsplit("/", 1)[1]]
    data = event["properties"]["data"]
    return data["contentSchema"] if "event" in event["properties"] else data["anyOf"][1]["contentSchema"]["anyOf"][0]
