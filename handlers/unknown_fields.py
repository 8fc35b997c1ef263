"""Which keys of a body nobody knows, at any depth: pydantic drops them without a word."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, get_args

from typing_extensions import TypeAliasType

from specserve.generated.base import ApiModel
from specserve.generated.errors import UnknownParameter

SAFE_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
ENTRY_NUMBER = re.compile(r"\.\d+(?=\.)")

CONTAINERS = frozenset([dict, list])
PLAIN = frozenset([str, int, float, bool])
NOTHING: tuple[object, ...] = (None, [], {})
"""Clients send answers back with all their empty fields; to drop such a one loses nothing."""


@cache
def names_of(schema: type[ApiModel]) -> dict[str, str]:
    """What the fields of a schema are called in Python, by their keys in JSON."""
    return {field.alias or name: name for name, field in schema.model_fields.items()}


@cache
def nested_fields(kind: type) -> dict[str, str] | None:
    """The fields that can hold other schemas, in lists or alone: names by key. None for what is no schema."""
    if not issubclass(kind, ApiModel):
        return None
    return {field.alias or name: name for name, field in kind.model_fields.items() if holds_schemas(field.annotation)}


def holds_schemas(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        return True
    if isinstance(annotation, TypeAliasType):
        return holds_schemas(annotation.__value__)
    return any(map(holds_schemas, get_args(annotation)))


def knows_all(sent: Any, read: Any) -> bool:
    """Whether no schema's object in `sent`, at any depth, has a key that its schema does not."""
    if type(read) is list:
        is_plain = not read or type(read[0]) in PLAIN  # such as the 32 000 tokens of a prompt
        return is_plain or all(map(knows_all, sent, read))
    nested = nested_fields(read.__class__)  # to ask whether it is an ApiModel would take ten times as long
    if nested is None:
        return True
    if len(sent) != len(read.__pydantic_fields_set__):
        return False
    for key, inner in sent.items():
        is_nested = type(inner) in CONTAINERS and key in nested
        if is_nested and inner and not knows_all(inner, getattr(read, nested[key])):
            return False
    return True


def unknown_keys(data: dict[str, Any], body: ApiModel) -> list[str]:
    """Dotted paths of the keys in `data` that the schemas of `body`, which was read from it, do not have.

    Those of the top level come first; deeper ones are left out when they are null or empty. What a schema leaves
    free, such as a JSON schema, has no unknown keys.
    """
    if knows_all(data, body):
        return []
    found: list[str] = []
    waiting: list[tuple[str, dict[str, Any], ApiModel]] = [("", data, body)]
    for path, sent, read in waiting:
        names = names_of(type(read))
        if len(sent) != len(read.model_fields_set) and read.model_config.get("extra") != "allow":
            found += [f"{path}{key}" for key in sent if key not in names and not (path and sent[key] in NOTHING)]
        for key, inner in sent.items():
            if isinstance(inner, dict | list) and key in names:
                waiting += models_in(f"{path}{key}.", inner, getattr(read, names[key]))
    return found


def models_in(path: str, sent: Any, read: Any) -> Iterator[tuple[str, dict[str, Any], ApiModel]]:
    """A schema's object, or those in a list, each beside the JSON it was read from."""
    if isinstance(read, ApiModel):
        yield path, sent, read
    elif isinstance(read, list) and read and not isinstance(read[0], int | str):
        for at, one in enumerate(read):
            yield from models_in(f"{path}{at}.", sent[at], one)


def unknown_fields(names: Sequence[str], schema: type[ApiModel]) -> UnknownParameter:
    """The refusal of a strict server; names at most eight, those of the top level with their likely spelling."""
    shown = []
    for name in names[:8]:
        known = () if "." in name else names_of(schema)  # those inside of others have other neighbours
        near = difflib.get_close_matches(name[:64], known, n=1, cutoff=0.6)
        shown.append(f"{name[:64]!r}{f' (did you mean {near[0]}?)' if near else ''}")
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return UnknownParameter(
        f"unknown fields: {', '.join(shown)}{more}; leave them out, or start the server without --strict-params",
        param=names[0][:64],
    )


def header_of_names(names: Sequence[str]) -> str:
    """Names chosen by a client, as a header value: only those that cannot be mistaken for anything else.

    The same key in several entries of a list is named once, without their numbers.
    """
    without_numbers = dict.fromkeys(ENTRY_NUMBER.sub("", name) for name in names)
    return ",".join([name for name in without_numbers if SAFE_NAME.fullmatch(name)][:16])
