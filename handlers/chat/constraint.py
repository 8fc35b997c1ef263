"""One constraint of a whole answer, whichever field of whichever protocol asks for it: made, checked, told about."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from specserve.engine.grammar_spec import GrammarKind, GrammarSpec
from specserve.generated.errors import InvalidConstraint, InvalidParameterCombination
from specserve.generated.schemas import StructuredOutputs
from specserve.handlers.context import RequestContext
from specserve.handlers.grammars import GrammarChecker

WIDENED_HEADER = "x-widened-schema-keywords"
UNKEPT_HEADER = "x-unenforced-fields"
MAX_HEADER_CHARS = 1000
SPACED, CLOSED = "how JSON is spaced, but no JSON", "what objects of a JSON schema may have, but no schema"
OF_SCHEMAS: frozenset[GrammarKind] = frozenset(("json_schema", "structural_tag"))
OF_JSON: frozenset[GrammarKind] = frozenset(("json_schema", "json_object", "structural_tag"))


@dataclass(frozen=True, slots=True)
class Constraint:
    """What was asked for, and the field that asked for it."""

    spec: GrammarSpec
    param: str

    async def checked(self, checker: GrammarChecker, context: RequestContext) -> GrammarSpec:
        """Ready for the engine. Keywords of a schema that are not enforced are named in a response header.

        Raises the errors of `GrammarChecker.check`.
        """
        spec = await checker.check(self.spec, param=self.param)
        tell_widened(spec.widened, context)
        return spec


@dataclass(frozen=True, slots=True)
class ConstraintOptions:
    """How constrained JSON is written; `whitespace_param` is the field that says how it is spaced."""

    any_whitespace: bool = True
    whitespace_pattern: str | None = None
    additional_properties: bool = True
    whitespace_param: str = "structured_outputs.whitespace_pattern"

    def constraint(self, kind: GrammarKind, source: Any, param: str, *, strict: bool = True) -> Constraint:
        """`source` is the text of the constraint, or the JSON that it is."""
        text = source if isinstance(source, str) else as_text(source)
        if kind not in OF_JSON:
            return Constraint(GrammarSpec(kind=kind, source=text), param)
        spec = GrammarSpec(
            kind=kind,
            source=text,
            strict=strict,
            any_whitespace=self.any_whitespace,
            whitespace_pattern=self.whitespace_pattern,
            additional_properties=self.additional_properties,
        )
        return Constraint(spec, param)

    def check_applies(self, found: Sequence[Constraint]) -> None:
        """Raises InvalidParameterCombination for what is asked of JSON where the answer is none, or has no schema."""
        kinds = {one.spec.kind for one in found}
        asked = (
            (self.whitespace_pattern is not None, OF_JSON, self.whitespace_param, SPACED),
            (not self.any_whitespace, OF_JSON, "structured_outputs.disable_any_whitespace", SPACED),
            (not self.additional_properties, OF_SCHEMAS, "structured_outputs.disable_additional_properties", CLOSED),
        )
        for is_asked, applies_to, param, what in asked:
            if is_asked and not kinds & applies_to:
                raise InvalidParameterCombination(
                    f"{param} says {what} is asked for; send a JSON schema with it, or leave it out", param=param
                )


def tell_widened(pointers: Sequence[str], context: RequestContext) -> None:
    """Name the keywords of a schema that are not enforced, if there are any, in a response header."""
    if pointers:
        listed = ",".join(quote(pointer, safe="/$~") for pointer in pointers)
        context.response_headers[WIDENED_HEADER] = listed[:MAX_HEADER_CHARS]


def tell_unkept(fields: Sequence[str], context: RequestContext) -> None:
    """Name the fields that ask for more than a grammar of this model's calls can hold them to, in a response header."""
    if fields:
        context.response_headers[UNKEPT_HEADER] = ",".join(fields)[:MAX_HEADER_CHARS]


def structured_constraints(outputs: StructuredOutputs, options: ConstraintOptions) -> Iterator[Constraint]:
    """All that the field structured_outputs asks for, in the order of its documentation. Raises InvalidConstraint."""
    if outputs.json_object is False:
        raise InvalidConstraint(
            "structured_outputs.json_object must be true or left out", param="structured_outputs.json_object"
        )
    if outputs.json_object:
        yield options.constraint("json_object", "", "structured_outputs.json_object")
    asked_for: tuple[tuple[GrammarKind, Any, str], ...] = (
        ("structural_tag", outputs.structural_tag, "structured_outputs.structural_tag"),
        ("json_schema", outputs.json_, "structured_outputs.json"),
        ("regex", outputs.regex, "structured_outputs.regex"),
        ("choice", outputs.choice, "structured_outputs.choice"),
        ("grammar", outputs.grammar, "structured_outputs.grammar"),
    )
    for kind, value, param in asked_for:
        if value is not None:
            yield options.constraint(kind, value, param)


def only_one(found: Sequence[Constraint], outputs: StructuredOutputs | None) -> Constraint | None:
    """Raises InvalidParameterCombination for more than one constraint, InvalidConstraint for a field of constraints
    that names none."""
    if len(found) > 1:
        raise InvalidParameterCombination(
            f"{found[0].param} and {found[1].param} both constrain the answer; send exactly one of them",
            param=found[1].param,
        )
    if not found and outputs is not None:
        raise InvalidConstraint(
            "structured_outputs names no constraint; give one of json, regex, choice, grammar, json_object and "
            "structural_tag, or leave it out",
            param="structured_outputs",
        )
    return found[0] if found else None


def as_text(value: Any) -> str:
    """Canonical as far as order allows: the order of properties is the order in which they are written."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
