"""From the fields that constrain an answer, in their three generations, to one `Constraint`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from specserve.engine.grammar_spec import GrammarKind, GrammarSpec
from specserve.generated import schemas
from specserve.generated.errors import InvalidParameterCombination
from specserve.handlers.chat.constraint import (
    Constraint,
    ConstraintOptions,
    only_one,
    structured_constraints,
)
from specserve.handlers.context import RequestContext
from specserve.handlers.grammars import GrammarChecker
from specserve.handlers.openai.reply import Request

CONSTRAINING = (
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "guided_whitespace_pattern",
)


async def checked_grammar(body: Request, checker: GrammarChecker, context: RequestContext) -> GrammarSpec | None:
    """The constraint of a request, ready for the engine; None without one.

    Raises the errors of `read_constraint` and of `GrammarChecker.check`.
    """
    constraint = read_constraint(body)
    return None if constraint is None else await constraint.checked(checker, context)


def read_constraint(body: Request) -> Constraint | None:
    """Raises InvalidParameterCombination for more than one constraint, InvalidConstraint for none where one is due."""
    values = vars(body)  # quicker than attributes of a schema
    if all(values[name] is None for name in CONSTRAINING):
        return None
    options = read_options(body)
    found = list(constraints(body, options))
    constraint = only_one(found, body.structured_outputs)
    options.check_applies(found)
    return constraint


def read_options(body: Request) -> ConstraintOptions:
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
    return ConstraintOptions(
        any_whitespace=not outputs.disable_any_whitespace,
        whitespace_pattern=pattern,
        additional_properties=not outputs.disable_additional_properties,
        whitespace_param=param,
    )


def constraints(body: Request, options: ConstraintOptions) -> Iterator[Constraint]:
    """All that the fields ask for, in the order of their documentation."""
    match body.response_format:
        case schemas.ResponseFormatJsonObject():
            yield options.constraint("json_object", "", "response_format")
        case schemas.ResponseFormatJsonSchema(json_schema=asked):
            param = "response_format.json_schema.schema"
            if asked.schema_ is None:  # a name alone: any object
                yield options.constraint("json_object", "", param)
            else:
                yield options.constraint("json_schema", asked.schema_, param, strict=bool(asked.strict))
        case schemas.ResponseFormatStructuralTag() as tag:
            source = tag.model_dump(by_alias=True, exclude_none=True)
            yield options.constraint("structural_tag", source, "response_format")
    yield from structured_constraints(body.structured_outputs or schemas.StructuredOutputs(), options)
    older: tuple[tuple[GrammarKind, Any, str], ...] = (
        ("json_schema", body.guided_json, "guided_json"),
        ("regex", body.guided_regex, "guided_regex"),
        ("choice", body.guided_choice, "guided_choice"),
        ("grammar", body.guided_grammar, "guided_grammar"),
    )
    for kind, value, param in older:
        if value is not None:
            yield options.constraint(kind, value, param)
