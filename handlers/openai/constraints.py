"""From the fields that constrain an answer, in their three generations, to one `GrammarSpec`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from specserve.engine.grammar_spec import GrammarKind, GrammarSpec
from specserve.generated import schemas
from specserve.generated.errors import InvalidConstraint, InvalidParameterCombination
from specserve.handlers.context import RequestContext
from specserve.handlers.grammars import GrammarChecker

Request = schemas.ChatCompletionRequest | schemas.CompletionRequest

WIDENED_HEADER = "x-widened-schema-keywords"
MAX_HEADER_CHARS = 1000
OF_JSON: frozenset[GrammarKind] = frozenset(("json_schema", "json_object", "structural_tag"))

CONSTRAINING = (
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "guided_whitespace_pattern",
)


@dataclass(frozen=True, slots=True)
class Constraint:
    """What was asked for, and the field that asked for it."""

    spec: GrammarSpec
    param: str


@dataclass(frozen=True, slots=True)
class Options:
    """Options of constraints, from `structured_outputs` or its predecessors."""

    any_whitespace: bool = True
    whitespace_pattern: str | None = None
    additional_properties: bool = True
    whitespace_param: str = "structured_outputs.whitespace_pattern"


async def checked_grammar(body: Request, checker: GrammarChecker, context: RequestContext) -> GrammarSpec | None:
    """The constraint of a request, ready for the engine; None without one. Keywords of a schema that are not enforced
    are named in a response header.

    Raises the errors of `read_constraint` and of `GrammarChecker.check`.
    """
    constraint = read_constraint(body)
    if constraint is None:
        return None
    spec = await checker.check(constraint.spec, param=constraint.param)
    tell_widened(spec.widened, context)
    return spec


def tell_widened(pointers: Sequence[str], context: RequestContext) -> None:
    """Name the keywords of a schema that are not enforced, if there are any, in a response header."""
    if pointers:
        listed = ",".join(quote(pointer, safe="/$~") for pointer in pointers)
        context.response_headers[WIDENED_HEADER] = listed[:MAX_HEADER_CHARS]


def read_constraint(body: Request) -> Constraint | None:
    """Raises InvalidParameterCombination for more than one constraint, InvalidConstraint for none where one is due."""
    if all(getattr(body, name) is None for name in CONSTRAINING):
        return None
    found = list(constraints(body, read_options(body)))
    if len(found) > 1:
        raise InvalidParameterCombination(
            f"{found[0].param} and {found[1].param} both constrain the answer; send exactly one of them",
            param=found[1].param,
        )
    if not found and body.structured_outputs is not None:
        raise InvalidConstraint(
            "structured_outputs names no constraint; give one of json, regex, choice, grammar, json_object and "
            "structural_tag, or leave it out",
            param="structured_outputs",
        )
    check_whitespace_applies(body, found)
    return found[0] if found else None


def check_whitespace_applies(body: Request, found: Sequence[Constraint]) -> None:
    """Raises InvalidParameterCombination for white space that is asked for of an answer that is no JSON."""
    options = read_options(body)
    if options.whitespace_pattern is not None and not any(one.spec.kind in OF_JSON for one in found):
        raise InvalidParameterCombination(
            f"{options.whitespace_param} says how JSON is spaced, but no JSON is asked for; send a JSON schema or "
            "json_object with it, or leave it out",
            param=options.whitespace_param,
        )


def read_options(body: Request) -> Options:
    """Raises InvalidParameterCombination for two statements about white space."""
    outputs = body.structured_outputs or schemas.StructuredOutputs()
    pattern, param = outputs.whitespace_pattern, "structured_outputs.whitespace_pattern"
    if pattern is None and body.guided_whitespace_pattern is not None:
        pattern, param = body.guided_whitespace_pattern, "guided_whitespace_pattern"
    if pattern is not None and outputs.disable_any_whitespace:
        raise InvalidParameterCombination(
            f"{param} and structured_outputs.disable_any_whitespace contradict each other; send one of them",
            param=param,
        )
    return Options(
        any_whitespace=not outputs.disable_any_whitespace,
        whitespace_pattern=pattern,
        additional_properties=not outputs.disable_additional_properties,
        whitespace_param=param,
    )


def constraints(body: Request, options: Options) -> Iterator[Constraint]:
    """All that the fields ask for, in the order of their documentation."""

    def constraint(kind: GrammarKind, source: str, param: str, *, strict: bool = True) -> Constraint:
        if kind not in OF_JSON:
            return Constraint(GrammarSpec(kind=kind, source=source), param)
        spec = GrammarSpec(
            kind=kind,
            source=source,
            strict=strict,
            any_whitespace=options.any_whitespace,
            whitespace_pattern=options.whitespace_pattern,
            additional_properties=options.additional_properties,
        )
        return Constraint(spec, param)

    match body.response_format:
        case schemas.ResponseFormatJsonObject():
            yield constraint("json_object", "", "response_format")
        case schemas.ResponseFormatJsonSchema(json_schema=asked):
            param = "response_format.json_schema.schema"
            if asked.schema_ is None:  # a name alone: any object
                yield constraint("json_object", "", param)
            else:
                yield constraint("json_schema", as_text(asked.schema_), param, strict=bool(asked.strict))
        case schemas.ResponseFormatStructuralTag() as tag:
            source = as_text(tag.model_dump(by_alias=True, exclude_none=True))
            yield constraint("structural_tag", source, "response_format")
    outputs = body.structured_outputs or schemas.StructuredOutputs()
    if outputs.json_object is False:
        raise InvalidConstraint(
            "structured_outputs.json_object must be true or left out", param="structured_outputs.json_object"
        )
    if outputs.json_object:
        yield constraint("json_object", "", "structured_outputs.json_object")
    if outputs.structural_tag is not None:
        yield constraint("structural_tag", outputs.structural_tag, "structured_outputs.structural_tag")
    asked_for: tuple[tuple[GrammarKind, Any, str], ...] = (
        ("json_schema", outputs.json_, "structured_outputs.json"),
        ("regex", outputs.regex, "structured_outputs.regex"),
        ("choice", outputs.choice, "structured_outputs.choice"),
        ("grammar", outputs.grammar, "structured_outputs.grammar"),
        ("json_schema", body.guided_json, "guided_json"),
        ("regex", body.guided_regex, "guided_regex"),
        ("choice", body.guided_choice, "guided_choice"),
        ("grammar", body.guided_grammar, "guided_grammar"),
    )
    for kind, value, param in asked_for:
        if value is not None:
            yield constraint(kind, value if isinstance(value, str) else as_text(value), param)


def as_text(value: Any) -> str:
    """Canonical as far as order allows: the order of properties is the order in which they are written."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
