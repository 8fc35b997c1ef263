"""Queries and documents in all forms clients send them in, as plain texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specserve.generated import schemas
from specserve.generated.errors import InvalidPrompt, UnsupportedValue
from specserve.handlers.errors import bounded

TEXT_PARTS = ("text", "input_text", "output_text")


def text_of(sent: str | schemas.TextObject, place: str, fields: Sequence[str] | None = None) -> str:
    """The text itself, that in `text` or `content`, or the values of `fields` line by line.

    Raises InvalidPrompt for an object without text, UnsupportedValue for a part that is no text.
    """
    if isinstance(sent, str):
        return sent
    values = sent.model_extra or {}
    if fields:
        texts = [plain(values[name], f"{place}.{name}") for name in fields if values.get(name) is not None]
        if not texts:
            raise InvalidPrompt(
                bounded(f"{place} has none of the rank_fields {', '.join(fields)}; it has {named(values)}"), param=place
            )
        return "\n".join(texts)
    if isinstance(values.get("text"), str):
        return str(values["text"])
    if values.get("content") is not None:
        return content_text(values["content"], f"{place}.content")
    raise InvalidPrompt(
        bounded(f"{place} is an object without text; it has {named(values)}, send text, or rank_fields to name others"),
        param=place,
    )


def content_text(content: Any, place: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidPrompt(f"{place} must be a text or a list of parts", param=place)
    return "\n".join(part_text(part, f"{place}.{at}") for at, part in enumerate(content))


def part_text(part: Any, place: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    shown = kind[:64] if isinstance(kind, str) else "unknown"
    raise UnsupportedValue(f"{place} is a part of type {shown}, but this model reads text only", param=place)


def plain(value: Any, place: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidPrompt(f"{place} must be a text or a number to be ranked", param=place)
    return str(value)


def named(values: dict[str, Any]) -> str:
    return ", ".join(name[:64] for name in list(values)[:8]) or "nothing"
