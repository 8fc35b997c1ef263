"""Schemas that refer to themselves, when they become part of another."""

from __future__ import annotations

from typing import Any

NOT_SCHEMAS = frozenset(["const", "enum", "default", "examples"])


def is_local(reference: object) -> bool:
    """`#` and `#/…`, which are counted from the root of the schema they stand in."""
    return isinstance(reference, str) and (reference == "#" or reference.startswith("#/"))


def refers_to_itself(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(refers_to_itself(item) for item in schema)
    if not isinstance(schema, dict):
        return False
    return is_local(schema.get("$ref")) or any(
        refers_to_itself(value) for key, value in schema.items() if key not in NOT_SCHEMAS
    )


def moved(schema: Any, root: str) -> Any:
    """The schema with its local references counted from `root`, the place it is moved to."""
    if isinstance(schema, list):
        return [moved(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: root + value[1:]
        if key == "$ref" and is_local(value)
        else value
        if key in NOT_SCHEMAS
        else moved(value, root)
        for key, value in schema.items()
    }
