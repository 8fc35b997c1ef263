"""--lora-modules: adapters by name, in the ways such servers know: NAME=PATH, a JSON object, or a list of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from specserve.handlers.flags import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
RULE = "must be 1 to 200 letters, digits and any of . _ : / @ + -, beginning with a letter or digit"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True, slots=True)
class LoraModule:
    """`base` is a name of the model it belongs to; None where there is only one."""

    name: str
    path: str
    base: str | None = None


def lora_modules(text: str) -> tuple[LoraModule, ...]:
    """Raises ValueError."""
    if not text.lstrip().startswith(("{", "[")):
        name, equals, path = text.partition("=")
        if not (equals and path):
            raise ValueError('must be NAME=PATH, or JSON such as {"name": "sql", "path": "adapters/sql"}')
        return (module_of(name, path, None),)
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("must be NAME=PATH or JSON, and is no valid JSON") from None
    return tuple(from_json(one) for one in (given if isinstance(given, list) else [given]))


def from_json(given: object) -> LoraModule:
    if not isinstance(given, dict) or not {"name", "path"} <= given.keys() <= {"name", "path", "base_model_name"}:
        raise ValueError("must have the keys name and path, and may have base_model_name")
    if not all(isinstance(value, str) for key, value in given.items() if key != "base_model_name" or value is not None):
        raise ValueError("must have texts as values")
    return module_of(given["name"], given["path"], given.get("base_model_name"))


def module_of(name: str, path: str, base: str | None) -> LoraModule:
    if NAME.fullmatch(name) is None:
        raise ValueError(f"the name {name[:200]!r} {RULE}")
    return LoraModule(name, str(Path(path).expanduser()), base)


def check_modules(modules: Sequence[LoraModule], model_names: Sequence[str]) -> None:
    """Of the model with these names. Raises UsageError."""
    names = [module.name for module in modules]
    for module in modules:
        if module.name in model_names:
            raise UsageError(
                f"the adapter {module.name} has the name of its model",
                "give one of them another name in --lora-modules",
            )
        if names.count(module.name) > 1:
            raise UsageError(f"two adapters have the name {module.name}", "give each a name of its own")
        if module.base is not None and module.base not in model_names:
            raise UsageError(
                f"the adapter {module.name} belongs to {module.base}, which is not served",
                f"base_model_name must be one of {', '.join(model_names)}",
            )


def modules_of_model(
    modules: Sequence[LoraModule], model_names: Sequence[str], all_names: Sequence[str]
) -> tuple[LoraModule, ...]:
    """Those of `modules`, which were given for several models at once, that belong to the one with these names.

    Raises UsageError for a module that does not say where it belongs.
    """
    for module in modules:
        if module.base is None or module.base not in all_names:
            raise UsageError(
                f"the adapter {module.name} does not say which of the models it belongs to",
                f"write it as JSON with base_model_name: one of {', '.join(all_names)}",
            )
    return tuple(module for module in modules if module.base in model_names)
