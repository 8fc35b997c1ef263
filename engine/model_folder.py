"""Where a model lives: a folder as it is, or a hub id brought into the local cache. Imports no torch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from specserve.engine.errors import ModelLoadError
from specserve.engine.registry import LazyRegistry

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB: LazyRegistry[Callable[[str, str | None], Path]] = LazyRegistry({"download": "specserve.engine.hub:download"})
"""Imported for hub ids only: the client takes a fifth of a second."""


def resolve_model_folder(path: str, revision: str | None = None) -> Path:
    """The folder of `path`, which is a folder or a hub id such as `org/name`.

    Raises ModelLoadError when neither leads to a folder with a config.json.
    """
    return local_model_folder(path) or _checked(_HUB.load("download")(path, revision))


def local_model_folder(path: str) -> Path | None:
    """The folder, or None when `path` can only be a hub id. Asks nobody. Raises ModelLoadError."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return _checked(folder)
    if folder.exists():
        raise ModelLoadError(
            f"{path} is a file, not a model folder",
            "pass the folder that holds config.json and *.safetensors",
        )
    looks_local = path.startswith((".", "/", "~")) or path.count(os.sep) > 1
    if looks_local or HUB_ID.fullmatch(path) is None:
        raise ModelLoadError(
            f"{path} does not exist",
            "pass an existing model folder, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct",
        )
    return None


def read_json(path: Path) -> dict[str, Any]:
    """Raises ModelLoadError when the file is not a JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} cannot be read: {error}", "download or export the model again") from error
    if not isinstance(value, dict):
        raise ModelLoadError(
            f"{path} holds a {type(value).__name__}, not a JSON object", "download or export the model again"
        )
    return value


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """Raises ModelLoadError when the file is not a JSON list of objects."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} cannot be read: {error}", "download or export the model again") from error
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ModelLoadError(f"{path} is not a list of JSON objects", "download or export the model again")
    return value


def merged(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`values` with those of `overrides`; objects in both are merged."""
    found = dict(values)
    for name, value in overrides.items():
        before = found.get(name)
        found[name] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return found


def transformer_folder(folder: Path) -> Path:
    """Where config.json, weights and tokenizer are: sentence-transformers may keep them in a folder of their own.

    Raises ModelLoadError for a modules.json that is no list.
    """
    if not (folder / "modules.json").is_file():
        return folder
    listed = read_json_list(folder / "modules.json")
    inside = folder / str(listed[0].get("path") or "") if listed else folder
    return inside if (inside / "config.json").is_file() else folder


def _checked(folder: Path) -> Path:
    if not (transformer_folder(folder) / "config.json").is_file():
        raise ModelLoadError(
            f"{folder} is not a model folder: it has no config.json",
            "pass the folder that transformers' save_pretrained wrote, or a hub id",
        )
    return folder
