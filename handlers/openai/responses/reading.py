"""Entries of unions that take anything: read again as what their type says they are, so that errors can be exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from specserve.generated.base import ApiModel
from specserve.generated.errors import InvalidType, MissingRequiredParameter
from specserve.handlers.errors import bounded
from specserve.handlers.violations import invalid
from specserve.handlers.wire import with_whole_numbers

M = TypeVar("M", bound=ApiModel)

MAX_HEADER_CHARS = 1000


def read_again(entry: ApiModel, kinds: Mapping[str, type[ApiModel]], place: str, *, default: str = "") -> ApiModel:
    """`entry`, or if it fell through to the branch for everything what its `type` says it is.

    An entry without a type is of the `default`. What is of none of the `kinds` stays as it is. Raises what
    `violations.invalid` finds, with its place in the request.
    """
    if type(entry).model_config.get("extra") != "allow":
        return entry
    raw = entry.model_dump(by_alias=True, exclude_unset=True)
    kind = raw.get("type")
    if kind is None:
        if not default:
            raise MissingRequiredParameter(f"{place}.type is missing", param=f"{place}.type")
        raw = {**raw, "type": default}
        kind = default
    schema = kinds.get(kind)
    return entry if schema is None else validated(schema, raw, place)


def validated(schema: type[M], raw: Any, place: str) -> M:
    """Raises what `violations.invalid` finds, with its place in the request."""
    if not isinstance(raw, dict):
        raise InvalidType(f"{place} must be an object", param=place)
    try:
        return schema.model_validate(with_whole_numbers(raw))
    except ValidationError as error:
        refusal = invalid(error, raw)
        message = bounded(f"{place}.{refusal.message}")
        raise type(refusal)(message, param=f"{place}.{refusal.param}"[:200]) from None


def names_header(names: Sequence[str]) -> str:
    """Kinds that were skipped, each once, without what could break out of a header."""
    safe = dict.fromkeys("".join(c for c in name[:64] if c.isalnum() or c in "_.-") or "?" for name in names)
    return ",".join(safe)[:MAX_HEADER_CHARS]
