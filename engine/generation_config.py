"""Sampling defaults and end tokens as a model's authors recommend them. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from specserve.engine.model_folder import read_json

SAMPLING_FIELDS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens")


def read_generation_defaults(path: str | Path) -> dict[str, Any]:
    """The sampling parameters the folder recommends, by the names they have there; empty without the file.

    `do_sample: false` becomes temperature 0. Fields that are null are left out. Raises ModelLoadError when
    the file is there but damaged.
    """
    file = Path(path) / "generation_config.json"
    if not file.is_file():
        return {}
    config = read_json(file)
    defaults = {name: config[name] for name in SAMPLING_FIELDS if config.get(name) is not None}
    if config.get("do_sample") is False:
        defaults["temperature"] = 0.0
    return defaults


def read_eos_token_ids(path: str | Path) -> tuple[int, ...]:
    """All end tokens: generation_config.json's, else config.json's (or its text part's); may be empty."""
    folder = Path(path)
    config = read_json(folder / "config.json")
    sources = [config, config.get("text_config") or {}]
    if (folder / "generation_config.json").is_file():
        sources.insert(0, read_json(folder / "generation_config.json"))
    for source in sources:
        found = source.get("eos_token_id")
        if isinstance(found, int):
            return (found,)
        if isinstance(found, list) and found:
            return tuple(int(token_id) for token_id in found)
    return ()
