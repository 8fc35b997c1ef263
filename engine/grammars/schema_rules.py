"""Which JSON Schema keywords are enforced, left out or refused, and the rewriting that makes the most of them.

`KEYWORDS` is the published table: the guide prints it, and its test compares the two. Keywords that are not in it are
annotations: JSON Schema gives them no meaning, so they constrain nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import llguidance

from specserve.engine.errors import GrammarError
from specserve.engine.grammars import formats

MAX_DEPTH = 64
MAX_SCHEMAS = 10_000
MAX_ENUM = 10_000
MAX_EXACT_NUMBER = 2**53
"""Beyond it the library's floating-point bounds may be off by some."""


class Treatment(StrEnum):
    ENFORCED = "enforced"
    CONDITIONAL = "enforced if"
    UNSUPPORTED = "not enforced"


def _table() -> dict[str, tuple[Treatment, str]]:
    enforced = """type properties required additionalProperties items prefixItems additionalItems minItems maxItems enum
        const anyOf allOf $ref $defs definitions $anchor $id minLength maxLength minimum maximum exclusiveMinimum
        exclusiveMaximum multipleOf"""
    table = dict.fromkeys(enforced.split(), (Treatment.ENFORCED, ""))
    table |= {
        "properties": (Treatment.ENFORCED, "written in the order of the schema"),
        "$ref": (Treatment.ENFORCED, "inside the same schema, recursive ones too; others are never fetched"),
        "minItems": (Treatment.ENFORCED, ""),
        "oneOf": (Treatment.CONDITIONAL, "no value can meet two of the alternatives"),
        "pattern": (Treatment.CONDITIONAL, "no look-around, no back-references; character classes are ASCII"),
        "format": (Treatment.CONDITIONAL, "the format is in the list below"),
        "patternProperties": (Treatment.CONDITIONAL, "no name matches two of the patterns"),
        "minProperties": (Treatment.CONDITIONAL, "at most one more than `required`; every listed property is required"),
        "maxProperties": (Treatment.CONDITIONAL, "every listed property is required"),
        "propertyNames": (Treatment.CONDITIONAL, "`pattern`, `enum` or `const`, and no properties are listed"),
        "uniqueItems": (Treatment.CONDITIONAL, "false, or at most one item"),
        "unevaluatedProperties": (Treatment.CONDITIONAL, "nothing beside it is combined: then as additionalProperties"),
    }
    unsupported = """not if then else contains minContains maxContains dependentRequired dependentSchemas dependencies
        unevaluatedItems $dynamicRef $recursiveRef"""
    return table | dict.fromkeys(unsupported.split(), (Treatment.UNSUPPORTED, ""))


KEYWORDS: Mapping[str, tuple[Treatment, str]] = MappingProxyType(_table())
_UNSUPPORTED = frozenset(name for name, (treatment, _) in KEYWORDS.items() if treatment is Treatment.UNSUPPORTED)
_MAPS_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_SCHEMAS = ("additionalProperties", "additionalItems", "items", "unevaluatedProperties")
_COMBINING = frozenset("allOf anyOf oneOf $ref if not patternProperties dependentSchemas".split())
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def escaped(step: str | int) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return str(step).replace("~", "~0").replace("/", "~1")


def parse(text: str, what: str) -> Any:
    """JSON as it is, but never deeper than the parser can go. Raises GrammarError."""

    def refuse(name: str) -> Any:
        raise GrammarError(f"{what} holds {name}, which JSON does not have")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise GrammarError(f"{what} is nested deeper than {MAX_DEPTH} levels, the limit; flatten it") from None
    except ValueError as error:
        raise GrammarError(f"{what} is not valid JSON: {error}") from None


@dataclass(slots=True)
class SchemaRewriter:
    """One pass over a schema: counts, refuses or leaves out what cannot be enforced, rewrites what can be said better.

    strict                 refuse instead of leaving out
    additional_properties  False: close every object that lists its properties
    widened                pointers of what was left out
    """

    strict: bool = True
    additional_properties: bool = True
    widened: list[str] = field(default_factory=list)
    num_schemas: int = 0

    def rewrite(self, schema: Any, pointer: str = "", depth: int = 0, *, is_part: bool = False) -> Any:
        """The schema to compile. `is_part`: an `allOf` above, so closing it alone would exclude its neighbours.

        Raises GrammarError with the pointer of the place at fault.
        """
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise GrammarError(f"a schema must be an object or a boolean, not {kind_of(schema)}", pointer=pointer)
        self.num_schemas += 1
        if self.num_schemas > MAX_SCHEMAS:
            raise GrammarError(f"the schema has more than {MAX_SCHEMAS} subschemas, the limit; simplify it")
        if depth > MAX_DEPTH:
            raise GrammarError(f"the schema is nested deeper than {MAX_DEPTH} levels, the limit; flatten it")
        made = {key: value for key, value in schema.items() if key != "x-guidance"}
        for keyword in [key for key in made if key in _UNSUPPORTED]:
            if self._means_something(made, keyword):
                self.leave_out(pointer, keyword, "is not supported")
            del made[keyword]
        for rule in _RULES:
            rule(self, made, pointer)
        self._close(made, is_part)
        self._descend(made, pointer, depth)
        return made

    def leave_out(self, pointer: str, keyword: str, why: str) -> None:
        """Note that a keyword is not enforced. Raises GrammarError when it must be."""
        where = f"{pointer}/{escaped(keyword)}"
        if self.strict:
            raise GrammarError(
                f"{keyword} {why}; leave it out, or send strict: false in response_format to have it left out for you",
                pointer=where,
                is_unsupported=True,
            )
        self.widened.append(where)

    def _means_something(self, schema: dict[str, Any], keyword: str) -> bool:
        if keyword in ("then", "else"):
            return "if" in schema
        if keyword == "if":
            return "then" in schema or "else" in schema
        if keyword in ("minContains", "maxContains"):
            return "contains" in schema
        return keyword != "unevaluatedItems" or schema[keyword] is not True

    def _close(self, schema: dict[str, Any], is_part: bool) -> None:
        if not self.additional_properties and not is_part and "properties" in schema and "allOf" not in schema:
            schema.setdefault("additionalProperties", False)

    def _descend(self, schema: dict[str, Any], pointer: str, depth: int) -> None:
        for keyword in _MAPS_OF_SCHEMAS:
            children = schema.get(keyword)
            if isinstance(children, dict):
                schema[keyword] = {
                    name: self.rewrite(child, f"{pointer}/{keyword}/{escaped(name)}", depth + 1)
                    for name, child in children.items()
                }
        for keyword in _LISTS_OF_SCHEMAS:
            listed = schema.get(keyword)
            if isinstance(listed, list):
                schema[keyword] = [
                    self.rewrite(child, f"{pointer}/{keyword}/{at}", depth + 1, is_part=keyword == "allOf")
                    for at, child in enumerate(listed)
                ]
        for keyword in _SCHEMAS:
            if isinstance(schema.get(keyword), dict):
                schema[keyword] = self.rewrite(schema[keyword], f"{pointer}/{keyword}", depth + 1)


def kind_of(value: object) -> str:
    names = {type(None): "null", str: "a string", list: "an array", int: "a number", float: "a number"}
    return names.get(type(value), "that")


def _limit_enum(rewriter: SchemaRewriter, schema: dict[str, Any], pointer: str) -> None:
    values = schema.get("enum")
    if isinstance(values, list) and len(values) > MAX_ENUM:
        raise GrammarError(
            f"enum has {len(values)} values, the limit is {MAX_ENUM}; list fewer", pointer=f"{pointer}/enum"
        )


def _check_reference(rewriter: SchemaRewriter, schema: dict[str, Any], pointer: str) -> None:
    target = schema.get("$ref")
    if isinstance(target, str) and not target.startswith("#"):
        raise GrammarError(
            f"$ref {target[:80]!r} leads out of the schema, and nothing is fetched; put the schema under $defs",
            pointer=f"{pointer}/$ref",
            is_unsupported=True,
        )


def _bound_numbers(rewriter: SchemaRewriter, schema: dict[str, Any], pointer: str) -> None:
    if schema.get("format") in formats.INTEGERS and schema.get("type") == "integer":
        low, high = formats.INTEGERS[schema.pop("format")]
        schema["allOf"] = [*schema.get("allOf", []), {"minimum": low, "maximum": high}]
    for keyword in _BOUNDS:
        value = schema.get(keyword)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) > MAX_EXACT_NUMBER:
            rewriter.leave_out(pointer, keyword, f"is beyond ±2^53 ({value:.3g}), where bounds are not exact")
            del schema[keyword]


def _format(rewriter: SchemaRewriter, schema: dict[str, Any], pointer: str) -> None:
    name = schema.get("format")
    if not isinstance(name, str) or name in formats.BUILT_IN:
        return
    del schema["format"]
    if name in formats.NARROWER:
        schema["format"] = formats.NARROWER[name]
    elif name in formats.PATTERNS:
        schema["allOf"] = [*schema.get("allOf", []), {"pattern": formats.PATTERNS[name]}]
    elif name not in formats.ANYTHING and name not in formats.INTEGERS:
        rewriter.leave_out(pointer, "format", f"{name[:40]!r} is not a format that can be enforced")


def _names_of_properties(rewriter: SchemaRewriter, schema: dict[str, Any], pointer: str) -> None:
    """`propertyNames` of an object without listed names is a pattern of its only kind of property."""
    if "propertyNames" not in schema:
        return
    names = schema.pop("propertyNames")
    if names is True or names == {}:
        return
    pattern = _pattern_of_names(names)
    if pattern is None or schema.get("properties") or "patternProperties" in schema:
        rewriter.leave_out(pointer, "propertyNames", "is enforced only as pattern, enum or const beside no properties")
        return
    schema["patternProperties"] = {pattern: schema.pop("additionalProperties", True)}
    schema["additionalProperties"] = False


def _pattern_of_names(names: Any) -> str | None:
    if not isinstance(names, dict):
        return None
    meaning = {key: value for key, value in names.items() if key not in ("type", "title", "description")}
    match meaning:
        case {"pattern": str(pattern), **rest} if not rest:
            return pattern
        case {"const": str(name), **rest} if not rest:
            return f"^{re.escape(name)}$"
        case {"enum": list(listed), **rest} if not rest and listed and all(isinstance(name, str) for name in listed):
            return f"^(?:{'|'.join(re.escape(name) for name in listed)})$"
    return None


def _unique_items(rewriter: SchemaRewriter, schema: dict[str, Any], pointer: str) -> None:
    if "uniqueItems" in schema:
        most = schema.get("maxItems")
        if schema["uniqueItems"] is not False and not (isinstance(most, int) and most <= 1):
            rewriter.leave_out(pointer, "uniqueItems", "is not supported")
        del schema["uniqueItems"]


def _unevaluated(rewriter: SchemaRewriter, schema: dict[str, Any], pointer: str) -> None:
    if "unevaluatedProperties" in schema:
        value = schema.pop("unevaluatedProperties")
        if value is True or value == {} or "additionalProperties" in schema:
            return
        if _COMBINING & schema.keys():
            rewriter.leave_out(pointer, "unevaluatedProperties", "is enforced only where nothing is combined")
        else:
            schema["additionalProperties"] = value


def _count_of_properties(rewriter: SchemaRewriter, schema: dict[str, Any], pointer: str) -> None:
    """Free names may repeat, and two entries of one name count once: only one of them is sure to count."""
    least = schema.get("minProperties")
    required = schema.get("required")
    num_required = len(set(map(str, required))) if isinstance(required, list) else 0
    if isinstance(least, int) and least > num_required + 1:
        rewriter.leave_out(pointer, "minProperties", f"is {least}, more than `required` names and one")
        del schema["minProperties"]


def _ascii_pattern(rewriter: SchemaRewriter, schema: dict[str, Any], pointer: str) -> None:
    """Character classes as ECMA-262 reads them, which JSON Schema refers to: ASCII digits and letters."""
    if isinstance(schema.get("pattern"), str):
        schema["pattern"] = llguidance.regex_to_lark(schema["pattern"], "dw")
    if isinstance(schema.get("patternProperties"), dict):
        schema["patternProperties"] = {
            llguidance.regex_to_lark(pattern, "dw"): value for pattern, value in schema["patternProperties"].items()
        }


_RULES: tuple[Callable[[SchemaRewriter, dict[str, Any], str], None], ...] = (
    _limit_enum,
    _check_reference,
    _bound_numbers,
    _format,
    _names_of_properties,
    _unique_items,
    _unevaluated,
    _count_of_properties,
    _ascii_pattern,
)
"""Each edits a copy of one schema in place, before its subschemas are visited."""
