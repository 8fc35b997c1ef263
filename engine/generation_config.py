"""Sampling defaults and end tokens as a model's authors recommend them. Imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specserve.engine.errors import InvalidParameterError
from specserve.engine.model_folder import read_json
from specserve.engine.params import SamplingParams

logger = logging.getLogger(__name__)

FILE_NAME = "generation_config.json"
SAMPLING_FIELDS = (
    *("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"),
    "max_new_tokens",
)
HONOURED_FIELDS = (*SAMPLING_FIELDS, "do_sample", "eos_token_id")
"""Everything that is read from the file; the rest of it is for training or for other forms of search."""


def problem_with(name: str, value: object) -> str | None:
    """What the value of a field breaks, as the end of "it …"; None for a good one, and for null."""
    if value is None:
        return None
    if name == "do_sample":
        return None if isinstance(value, bool) else "must be true or false"
    if name == "eos_token_id":
        ids = value if isinstance(value, list) else [value]
        good = all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids)
        return None if good and ids else "must be a token id, or a list of them"
    is_count = name in ("top_k", "max_new_tokens")
    if isinstance(value, bool) or not isinstance(value, int if is_count else int | float):
        return f"must be {'an integer' if is_count else 'a number'}"
    if name == "max_new_tokens":
        return None if value >= 1 else "must be at least 1"
    if name == "top_k":
        return None if value >= -1 else "must be -1 or 0 (off) or positive"
    try:
        SamplingParams(max_tokens=1, **{name: float(value)})  # type: ignore[arg-type]
    except (InvalidParameterError, OverflowError) as error:
        return str(error).removeprefix(name).partition(", got")[0].strip()
    return None


def read_generation_defaults(path: str | Path | None, override: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The sampling parameters the folder recommends, by the names they have there; empty without the file.

    `path` None reads no file. Entries of `override` replace the file's; null ones remove them. `do_sample: false`
    becomes temperature 0, unless `override` names a temperature. Fields that are null are left out, and so are
    values out of range, with a warning. Raises ModelLoadError when the file is there but damaged.
    """
    config, override = read_file(path), dict(override or {})
    if override.get("temperature") is not None and "do_sample" not in override:
        config.pop("do_sample", None)
    config |= override
    defaults: dict[str, Any] = {}
    for name in SAMPLING_FIELDS:
        value = config.get(name)
        if (problem := problem_with(name, value)) is not None:
            logger.warning("%s of %s is left out: %r %s", name, FILE_NAME, value, problem)
        elif value is not None:
            defaults[name] = value
    if config.get("do_sample") is False:
        defaults["temperature"] = 0.0
    return defaults


def read_file(path: str | Path | None) -> dict[str, Any]:
    """The content of the folder's generation_config.json; empty without one. Raises ModelLoadError."""
    file = None if path is None else Path(path).expanduser() / FILE_NAME
    return read_json(file) if file is not None and file.is_file() else {}


def read_eos_token_ids(path: str | Path) -> tuple[int, ...]:
    """All end tokens: generation_config.json's, else config.json's (or its text part's); may be empty."""
    config = read_json(Path(path) / "config.json")
    for source in (read_file(path), config, config.get("text_config") or {}):
        found = end_tokens(source.get("eos_token_id"))
        if found:
            return found
    return ()


def end_tokens(named: object) -> tuple[int, ...]:
    """The value of an `eos_token_id`: one id, several, or anything else for none."""
    if isinstance(named, int):
        return (named,)
    return tuple(int(token_id) for token_id in named) if isinstance(named, list) else ()
