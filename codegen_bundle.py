"""The documents of openapi/ as one: read, put together, extended by overlays, flattened for readers.

Also the questions about such a document that the lint rules and the writers both ask. Knows no rule.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Json = Any


class ContractError(Exception):
    """The documents contradict themselves or a rule; the message has one line per finding."""


# ---- bundle --------------------------------------------------------------------------------------
def walk(node: Json) -> Iterator[dict[str, Json]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def load(path: Path) -> dict[str, Json]:
    """Read one document. References into other files lose the file part: all documents end up in one."""
    # Through JSON, because YAML aliases are shared objects: an overlay would change several places at once.
    doc: dict[str, Json] = json.loads(json.dumps(yaml.safe_load(path.read_text())))
    for node in walk(doc):
        if isinstance(ref := node.get("$ref"), str) and not ref.startswith("#"):
            file, _, pointer = ref.partition("#")
            if not (path.parent / file).exists():
                raise ContractError(f"{path.name}: no file for {ref}")
            node["$ref"] = "#" + pointer
    return doc


def add(into: dict[str, Json], part: dict[str, Json], source: str) -> None:
    """Put one document's paths, components and error codes into the bundle; a name has one home."""
    components = {f"components.{kind}": entries for kind, entries in part.get("components", {}).items()}
    sections = {"paths": part.get("paths", {}), "x-error-codes": part.get("x-error-codes", {}), **components}
    for section, entries in sections.items():
        home = into
        for key in section.split("."):
            home = home.setdefault(key, {})
        for name, value in entries.items():
            if name in home:
                raise ContractError(f"{source}: {name} is already defined")
            home[name] = value


STEP = re.compile(r"\.(\w+)|\[((?:'[^']+',?)+)\]|\[\?\(@ == '([^']*)'\)\]")


def select(node: Json, steps: list[tuple[str, str, str]]) -> Iterator[tuple[Json, Json]]:
    """Yield (container, key) for a JSONPath made of .name, ['a','b'] and [?(@ == 'value')] steps."""
    (name, names, value), rest = steps[0], steps[1:]
    keys: list[Json]
    if value:
        keys = [i for i, item in enumerate(node) if item == value]
    else:
        keys = [key for key in ([name] if name else re.findall(r"'([^']+)'", names)) if key in node]
    for key in keys:
        if rest:
            yield from select(node[key], rest)
        else:
            yield node, key


def merge(old: Json, new: Json) -> Json:
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: merge(old[key], value) if key in old else value for key, value in new.items()}
    if isinstance(old, list) and isinstance(new, list) and "null" not in new:
        return old + new
    return new  # a scalar, or the list of types of a field that now admits null


def overlay(doc: dict[str, Json], layer: dict[str, Json], source: str) -> None:
    """Apply an OpenAPI Overlay 1.0 document. Stricter than that standard: a target that matches nothing is an
    error, and so is a name in a ['a','b'] step that is not there. The document moved under the extension."""
    for action in layer["actions"]:
        target = action["target"]
        steps = STEP.findall(target)
        if "$" + "".join(match.group() for match in STEP.finditer(target)) != target:
            raise ContractError(f"{source}: {target} is not a path this program knows")
        hits = list(select(doc, steps))
        wanted = 1
        for _, names, _ in steps:
            wanted *= max(1, len(re.findall(r"'([^']+)'", names)))
        if len(hits) < wanted:
            raise ContractError(f"{source}: nothing matches {target}" + (" in part" if hits else ""))
        for container, key in reversed(hits):
            if action.get("remove"):
                del container[key]
            else:
                container[key] = merge(container[key], copy.deepcopy(action["update"]))


def bundle(entry: Path, *, standard_only: bool = False) -> dict[str, Json]:
    """One document from the entry document and its sources; `standard_only` leaves the extensions out."""
    doc = load(entry)
    sources = doc.pop("x-sources")
    for name in sources["base"] + ([] if standard_only else sources["extensions"]):
        add(doc, load(entry.parent / name), name)
    for name in [] if standard_only else sources["overlays"]:
        overlay(doc, load(entry.parent / name), name)
    add_common_answers(doc)
    for node in walk(doc):
        if isinstance(ref := node.get("$ref"), str) and ref.startswith("#/components/"):
            _, _, kind, name = ref.split("/")
            if name not in doc["components"].get(kind, {}):
                raise ContractError(f"unresolved {ref}")
    return doc


def answered_with(operation: Json, response: str) -> str:
    """The component an operation answers a code of `response` with: it may have another envelope, named by x-errors."""
    return f"{operation.get('x-errors', '')}{response}"


def common_answers(doc: Json, operation: Json) -> set[str]:
    """The responses of codes that no operation lists, because all of its kind can answer with them."""
    kinds = {"any"} | ({"body"} if "requestBody" in operation else set())
    kinds |= {"key"} if operation.get("security", doc.get("security")) else set()
    codes = doc.get("x-error-codes", {}).values()
    return {answered_with(operation, entry["response"]) for entry in codes if entry.get("where") in kinds}


def add_common_answers(doc: dict[str, Json]) -> None:
    for _, _, operation in operations_of(doc):
        for name in common_answers(doc, operation):
            status = str(doc["components"]["responses"][name]["x-error"]["status"])
            operation["responses"].setdefault(status, {"$ref": f"#/components/responses/{name}"})
        operation["responses"] = dict(sorted(operation["responses"].items()))


def flatten(doc: dict[str, Json]) -> dict[str, Json]:
    """For readers and fuzzers: an object that mixes in others lists their properties itself, an error code says its
    status and type, and the envelope says which codes there are."""
    doc = copy.deepcopy(doc)
    catalogue = doc.get("x-error-codes", {})
    for entry in catalogue.values():
        entry.update(doc["components"]["responses"][entry["response"]]["x-error"])
        del entry["class"]
    if body := doc["components"]["schemas"].get("ErrorBody"):
        body["properties"]["code"].update(type="string", enum=list(catalogue))
        body["properties"]["type"].update(enum=sorted({entry["type"] for entry in catalogue.values()}))
    schemas = doc["components"]["schemas"]

    def flat(schema: Json) -> None:
        for part in schema.pop("allOf", []):
            other = schemas[name_of(part)]
            flat(other)
            schema["properties"] = schema.get("properties", {}) | copy.deepcopy(other["properties"])
            if required := schema.get("required", []) + other.get("required", []):
                schema["required"] = required

    for schema in schemas.values():
        schema.pop("x-codegen", None)
        flat(schema)
    return doc


def name_of(node: Json) -> str:
    """The component a reference names, or ''."""
    return str((node or {}).get("$ref", "")).rsplit("/", 1)[-1]


# ---- questions -----------------------------------------------------------------------------------
def subschemas(schema: Json, where: str) -> Iterator[tuple[str, Json]]:
    """A schema and every schema written inside it (not those it refers to), each with its place."""
    if not isinstance(schema, dict):
        return
    yield where, schema
    for key, prop in schema.get("properties", {}).items():
        yield from subschemas(prop, f"{where}.{key}")
    for key in ("items", "additionalProperties", "propertyNames", "contentSchema"):
        yield from subschemas(schema.get(key), f"{where}.{key}")
    for key in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(key, []):
            yield from subschemas(part, where)


def operations_of(doc: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in doc["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def response_of(doc: Json, node: Json) -> Json:
    return doc["components"]["responses"][name_of(node)] if "$ref" in node else node


def request_schemas(doc: Json) -> dict[str, bool]:
    """Every component a request body can contain; true for those of forms."""
    schemas, seen = doc["components"]["schemas"], dict[str, bool]()

    def visit(name: str, form: bool) -> None:
        if name not in seen:
            seen[name] = form
            for _, part in subschemas(schemas[name], name):
                if "$ref" in part:
                    visit(name_of(part), form)

    for _, _, operation in operations_of(doc):
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            visit(name_of(content["schema"]), media != "application/json")
    return seen


def admits_null(doc: Json, schema: Json) -> bool:
    if "$ref" in schema:
        return admits_null(doc, doc["components"]["schemas"][name_of(schema)])
    kinds, parts = schema.get("type", []), schema.get("anyOf", []) + schema.get("oneOf", [])
    return (
        "null" in kinds
        or any(admits_null(doc, part) for part in parts)
        or not (kinds or parts or schema.keys() & {"enum", "const", "allOf"})
    )
