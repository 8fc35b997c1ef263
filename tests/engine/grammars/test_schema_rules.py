"""Keywords that cannot be enforced: refused at their place, or left out and reported when the schema is not strict."""

from __future__ import annotations

import json
from typing import Any

import pytest

from specserve.engine.errors import GrammarError
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.schema_rules import KEYWORDS, Treatment

UNSUPPORTED: dict[str, Any] = {
    "not": {"not": {"type": "string"}},
    "if": {"if": {"minLength": 1}, "then": {"maxLength": 2}},
    "contains": {"type": "array", "contains": {"type": "null"}},
    "dependentRequired": {"dependentRequired": {"a": ["b"]}},
    "dependentSchemas": {"dependentSchemas": {"a": {}}},
    "dependencies": {"dependencies": {"a": ["b"]}},
    "unevaluatedItems": {"unevaluatedItems": False},
    "$dynamicRef": {"$dynamicRef": "#x"},
    "$recursiveRef": {"$recursiveRef": "#"},
}
CONDITION_BROKEN: dict[str, Any] = {
    "oneOf": {"oneOf": [{"type": "string"}, {"type": "string", "minLength": 3}]},
    "pattern": {"type": "string", "pattern": "(?=a)b"},
    "format": {"type": "string", "format": "credit-card"},
    "patternProperties": {"type": "object", "patternProperties": {"^x": {}, "y$": {}}},
    "minProperties": {"type": "object", "minProperties": 2},
    "maxProperties": {"type": "object", "properties": {"a": {}, "b": {}}, "maxProperties": 1},
    "propertyNames": {"type": "object", "properties": {"a": {}}, "propertyNames": {"pattern": "^a"}},
    "uniqueItems": {"type": "array", "uniqueItems": True},
    "unevaluatedProperties": {"type": "object", "allOf": [{}], "unevaluatedProperties": False},
}


def spec_of(schema: Any, *, strict: bool = True, additional_properties: bool = True) -> GrammarSpec:
    return GrammarSpec(
        kind="json_schema",
        source=json.dumps(schema),
        strict=strict,
        additional_properties=additional_properties,
    )


def below(schema: Any) -> Any:
    """The schema somewhere inside another one, at /properties/x~1y/items."""
    return {"type": "object", "properties": {"x/y": {"type": "array", "items": schema}}}


PLACE = "/properties/x~1y/items"


def test_every_keyword_that_is_not_enforced_as_it_is_has_a_test() -> None:
    dependent = {"then", "else", "minContains", "maxContains"}  # mean nothing without the one they go with
    by_treatment = {
        treatment: {name for name, (found, _) in KEYWORDS.items() if found is treatment} for treatment in Treatment
    }
    assert by_treatment[Treatment.UNSUPPORTED] - dependent == UNSUPPORTED.keys()
    assert by_treatment[Treatment.CONDITIONAL] == CONDITION_BROKEN.keys()


@pytest.mark.parametrize("keyword", [*UNSUPPORTED, *CONDITION_BROKEN])
def test_a_strict_schema_is_refused_with_the_place_of_the_keyword(keyword: str, compiler: GrammarCompiler) -> None:
    schema = (UNSUPPORTED | CONDITION_BROKEN)[keyword]
    with pytest.raises(GrammarError) as refused:
        compiler.check(spec_of(below(schema)))
    assert refused.value.pointer == f"{PLACE}/{keyword}"
    assert refused.value.is_unsupported
    assert keyword in refused.value.message


@pytest.mark.parametrize("keyword", [*UNSUPPORTED, *CONDITION_BROKEN])
def test_another_schema_loses_the_keyword_and_says_so(keyword: str, compiler: GrammarCompiler) -> None:
    schema = (UNSUPPORTED | CONDITION_BROKEN)[keyword]
    checked = compiler.check(spec_of(below(schema), strict=False))
    assert checked.widened == (f"{PLACE}/{keyword}",)
    compiler.compile(checked)


def test_dependent_keywords_mean_nothing_alone(compiler: GrammarCompiler) -> None:
    for schema in ({"then": {"not": {}}, "else": {}}, {"minContains": 1, "maxContains": 2}, {"if": {"not": {}}}):
        assert compiler.check(spec_of(schema)).widened == ()


def test_an_alternative_of_oneof_is_still_met_when_it_is_widened(compiler: GrammarCompiler) -> None:
    schema = {"oneOf": [{"const": "a"}, {"type": "string", "maxLength": 1}]}
    assert '"anyOf"' in compiler.check(spec_of(schema, strict=False)).rules


def test_objects_can_be_closed_by_an_option(compiler: GrammarCompiler) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}}
    assert (
        compiler.check(spec_of(schema, additional_properties=False)).rules.count('"additionalProperties": false') == 2
    )
    assert '"additionalProperties"' not in compiler.check(spec_of(schema)).rules


def test_options_of_the_library_cannot_be_smuggled_in(compiler: GrammarCompiler) -> None:
    schema = {"not": {}, "x-guidance": {"lenient": True, "whitespace_pattern": "x*"}}
    with pytest.raises(GrammarError):
        compiler.check(spec_of(schema))
    del schema["not"]
    assert "x*" not in compiler.check(spec_of(schema)).rules


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"properties": {"a": {"$ref": "https://example.com/schema"}}}, "/properties/a/$ref"),
        ({"properties": {"a": {"enum": list(range(10_001))}}}, "/properties/a/enum"),
        ({"properties": {"a": 5}}, "/properties/a"),
        ({"properties": {"a": {"type": "strin"}}}, "/properties/a"),
        ({"items": {"type": "integer", "minimum": 1e20}}, "/items/minimum"),
    ],
)
def test_the_place_at_fault_is_named(schema: Any, pointer: str, compiler: GrammarCompiler) -> None:
    with pytest.raises(GrammarError) as refused:
        compiler.check(spec_of(schema))
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('{"items":' * 70 + "{}" + "}" * 70, "64 levels"),
        ('{"items":' * 50_000 + "{}" + "}" * 50_000, "64 levels"),
        (json.dumps({"properties": {f"p{n}": {} for n in range(10_001)}}), "10000 subschemas"),
        (json.dumps({"title": "x" * 1_000_001}), "1000000"),
    ],
    ids=["deep", "very deep", "wide", "long"],
)
def test_large_schemas_are_refused(source: str, words: str, compiler: GrammarCompiler) -> None:
    with pytest.raises(GrammarError) as refused:
        compiler.check(GrammarSpec(kind="json_schema", source=source))
    assert words in refused.value.message
