"""What is wrong with a body, in plain words: the place, the rule, the value, and the code of the refusal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, to_json

from specserve.generated.errors import (
    ApiError,
    ArrayAboveMaxLength,
    DecimalAboveMaxValue,
    DecimalBelowMinValue,
    EmptyArray,
    IntegerAboveMaxValue,
    IntegerBelowMinValue,
    InvalidType,
    InvalidValue,
    MissingRequiredParameter,
    StringAboveMaxLength,
    StringBelowMinLength,
)
from specserve.handlers.errors import bounded

MAX_SHOWN_ERRORS = 3
MAX_SHOWN_CHARS = 80


def details(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False)


@dataclass(frozen=True, slots=True)
class Violation:
    """One field at fault: the dotted path to the place, what it must be and is not, and the code for that."""

    path: str
    sentence: str
    kind: type[ApiError]


def invalid(error: ValidationError, data: dict[str, Any]) -> ApiError:
    """One refusal for all violations: the first field at fault in `param` and `code`, at most three explained."""
    found = list(violations(error, data))
    shown = "; ".join(f"{violation.path} {violation.sentence}" for violation in found[:MAX_SHOWN_ERRORS])
    more = f"; and {len(found) - MAX_SHOWN_ERRORS} more" if len(found) > MAX_SHOWN_ERRORS else ""
    return found[0].kind(bounded(shown + more), param=found[0].path[:200])


def violations(error: ValidationError, data: dict[str, Any]) -> Iterator[Violation]:
    """One for each top-level field at fault, in the schema's order: the first place in it.

    A value that may have several shapes reports violations for each of them. The shape that was meant is taken to
    be the one that fits furthest into the value; shapes that fail at the same place are told together, unless one
    of them got as far as to a rule about the value. A shape that does not even fit the first entry of a list was
    not meant when another has a rule about the whole list.
    """
    by_field: dict[str, list[tuple[Place, ErrorDetails]]] = {}
    for detail in details(error):
        place = place_of(detail, data)
        by_field.setdefault(str(place.path[0]) if place.path else "body", []).append((place, detail))
    for field, found in by_field.items():
        first = found[0][0]
        prefix = first.path[: first.num_before_shapes]
        rivals = of_meant_shapes(
            [(place.path, detail) for place, detail in found if place.path[: len(prefix)] == prefix], prefix
        )
        path = max((path for path, _ in rivals), key=depth)
        here = [detail for where, detail in rivals if where == path]
        if path == (*prefix, 0) and all(detail["type"].endswith("_type") for detail in here):
            whole = [
                detail for where, detail in rivals if where == prefix and detail["type"] in ("too_long", "too_short")
            ]
            path, here = (prefix, whole) if whole else (path, here)
        ruled = [detail for detail in here if not detail["type"].endswith("_type")] or here
        wanted = list(dict.fromkeys(sentence(detail) for detail in ruled))
        yield Violation(
            ".".join(str(part)[:64] for part in path) or field, " or ".join(wanted) + sent(ruled[0]), kind_of(ruled[0])
        )


Rival = tuple[tuple[str | int, ...], ErrorDetails]


def of_meant_shapes(rivals: list[Rival], prefix: tuple[str | int, ...]) -> list[Rival]:
    """Without those of shapes that are told apart from the value by its `type`, if any shape is left then."""

    def shape(detail: ErrorDetails) -> str | int | None:
        return detail["loc"][len(prefix)] if len(detail["loc"]) > len(prefix) else None

    others = {
        shape(detail) for path, detail in rivals if path == (*prefix, "type") and detail["type"] == "literal_error"
    }
    return [(path, detail) for path, detail in rivals if shape(detail) not in others] or rivals


KINDS: Mapping[str, type[ApiError]] = {
    "missing": MissingRequiredParameter,
    "union_tag_not_found": MissingRequiredParameter,
    "int_from_float": InvalidType,
    "none_required": InvalidType,
    "string_too_short": StringBelowMinLength,
    "string_too_long": StringAboveMaxLength,
    "too_short": EmptyArray,  # no field needs more than one entry
    "too_long": ArrayAboveMaxLength,
}


def kind_of(detail: ErrorDetails) -> type[ApiError]:
    """The class with OpenAI's code for a violation."""
    rule, context = detail["type"], detail.get("ctx", {})
    match rule:
        case "greater_than" | "greater_than_equal":
            return IntegerBelowMinValue if isinstance(next(iter(context.values())), int) else DecimalBelowMinValue
        case "less_than" | "less_than_equal":
            return IntegerAboveMaxValue if isinstance(next(iter(context.values())), int) else DecimalAboveMaxValue
        case "literal_error":
            return InvalidValue if isinstance(detail["input"], str) else InvalidType
    return KINDS.get(rule) or (InvalidType if rule.endswith("_type") else InvalidValue)


def depth(path: tuple[str | int, ...]) -> tuple[int, tuple[int, ...]]:
    """How far into a value: more steps first, then later entries."""
    return len(path), tuple(part for part in path if isinstance(part, int))


def sent(detail: ErrorDetails) -> str:
    """What was found instead, as the end of a sentence."""
    if detail["type"] in ("missing", "union_tag_not_found"):
        return ""
    return f", not {described(detail['ctx']['tag'] if detail['type'] == 'union_tag_invalid' else detail['input'])}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a violation is: the real steps to it, without the names of shapes that the validator puts between them.

    `num_before_shapes` real steps come before the first such name; all of them when there is none.
    """

    path: tuple[str | int, ...]
    num_before_shapes: int


def place_of(detail: ErrorDetails, data: dict[str, Any]) -> Place:
    steps = detail["loc"]
    if is_missing := detail["type"] == "missing":
        steps = steps[:-1]
    readings = list(readings_of(steps, data))
    # The name of a shape can also be a key of the value: the reading that leads to the value at fault is the right one.
    real = next((reading for reading, value in readings if value is detail["input"]), readings[0][0])
    path = [step for step, is_real in zip(steps, real, strict=True) if is_real]
    num_before_shapes = real.index(False) if False in real else None
    if is_missing:
        path.append(detail["loc"][-1])
    elif detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path.append(str(detail["ctx"]["discriminator"]).strip("'"))
    return Place(tuple(path), len(path) if num_before_shapes is None else num_before_shapes)


def readings_of(steps: tuple[str | int, ...], value: Any) -> Iterator[tuple[tuple[bool, ...], Any]]:
    """Each way to take the steps for real ones or for names of shapes, and where it leads; real is tried first."""
    if not steps:
        yield (), value
        return
    step, rest = steps[0], steps[1:]
    is_entry = isinstance(value, dict) and step in value
    is_item = isinstance(value, list) and isinstance(step, int) and step < len(value)
    if is_entry or is_item:
        for reading, end in readings_of(rest, value[step]):
            yield (True, *reading), end
    for reading, end in readings_of(rest, value):
        yield (False, *reading), end


def sentence(detail: ErrorDetails) -> str:
    """What the value must be, in words that do not name the validator."""
    context = detail.get("ctx", {})
    match detail["type"]:
        case "missing" | "union_tag_not_found":
            return "is required"
        case "string_type":
            return "must be a string"
        case "int_type" | "int_from_float":
            return "must be an integer"
        case "float_type":
            return "must be a number"
        case "finite_number":
            return "must be a finite number"
        case "bool_type":
            return "must be true or false"
        case "list_type":
            return "must be an array"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "must be an object"
        case "none_required":
            return "must be null"
        case "greater_than_equal":
            return f"must be at least {plain(context['ge'])}"
        case "less_than_equal":
            return f"must be at most {plain(context['le'])}"
        case "greater_than":
            return f"must be greater than {plain(context['gt'])}"
        case "less_than":
            return f"must be less than {plain(context['lt'])}"
        case "too_short":
            return f"must have at least {counted(context['min_length'], 'entry')}"
        case "too_long":
            return f"must have at most {counted(context['max_length'], 'entry')}"
        case "string_too_short":
            return f"must have at least {counted(context['min_length'], 'character')}"
        case "string_too_long":
            return f"must have at most {counted(context['max_length'], 'character')}"
        case "string_pattern_mismatch":
            return f"must match the pattern {context['pattern']}"
        case "literal_error":
            return f"must be {context['expected']}"
        case "union_tag_invalid":
            return f"must be one of {context['expected_tags']}"
    return "does not have the documented shape"


def counted(number: int, noun: str) -> str:
    plural = noun.removesuffix("y") + "ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def plain(limit: float) -> str:
    """A limit without exponent or needless decimals."""
    return str(int(limit)) if limit == int(limit) else str(limit)


def described(value: object) -> str:
    """A value as JSON would name it, short enough to be quoted."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() if value.bit_length() > 256:
            return "a number of that size"
        case int() | float():
            text = repr(value)
        case str():
            text = to_json(value[:MAX_SHOWN_CHARS]).decode()
        case list():
            return f"an array of {len(value)}"
        case dict():
            return "an object"
        case _:
            return "that"
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "…"
