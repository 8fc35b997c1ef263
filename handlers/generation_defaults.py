"""What a request that is silent gets: the model authors' recommendation, another folder's, or the operator's own."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specserve.engine.api import ModelInfo
from specserve.engine.errors import ModelLoadError
from specserve.engine.generation_config import (
    FILE_NAME,
    HONOURED_FIELDS,
    end_tokens,
    problem_with,
    read_file,
    read_generation_defaults,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDefaults:
    """None leaves the neutral value. `max_tokens_ceiling` holds for every request, whatever it asks for."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_new_tokens: int | None = None
    max_tokens_ceiling: int | None = None


class GenerationSource:
    """`--generation-config` and `--override-generation-config`, read once the model is there.

    `source` is auto (the model's folder), vllm (no file) or a folder. A max_new_tokens of the model's authors is a
    recommendation; one that the operator chose, by a folder or an override, limits every request.
    """

    def __init__(self, source: str, override: Mapping[str, Any] | None = None) -> None:
        self._source, self._override = source, dict(override or {})
        self._read: GenerationDefaults | None = None

    def __call__(self, model: ModelInfo) -> GenerationDefaults:
        if self._read is None:
            values = read_generation_defaults(self._folder(model.path), self._override)
            is_chosen = self._source not in ("auto", "vllm") or self._override.get("max_new_tokens") is not None
            ceiling = values.get("max_new_tokens") if is_chosen else None
            self._read = GenerationDefaults(**values, max_tokens_ceiling=ceiling)
        return self._read

    def _folder(self, model_path: str) -> str | None:
        return {"auto": model_path, "vllm": None}.get(self._source, self._source)

    def eos_token_ids(self) -> tuple[int, ...] | None:
        """End tokens that replace those of the model's own files; None keeps these."""
        if self._override.get("eos_token_id") is not None:
            return end_tokens(self._override["eos_token_id"])
        chosen = {} if self._source in ("auto", "vllm") else read_file(self._source)
        return end_tokens(chosen.get("eos_token_id")) or None


def generation_source(text: str) -> str:
    """The value of --generation-config. Raises ValueError with the rule."""
    if text in ("auto", "vllm"):
        return text
    if not (Path(text).expanduser() / FILE_NAME).is_file():
        raise ValueError(f"must be auto, vllm or a folder with a {FILE_NAME}")
    try:
        read_file(text)
    except ModelLoadError as error:
        raise ValueError(f"its {FILE_NAME} must be a JSON object ({error.cause})") from error
    return text


def check_override(values: Mapping[str, Any]) -> None:
    """Raises ValueError naming the first key that is unknown or has a bad value."""
    for name, value in values.items():
        if name not in HONOURED_FIELDS:
            near = difflib.get_close_matches(name, HONOURED_FIELDS, n=1, cutoff=0.6)
            advice = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"has the unknown key {name}; {advice}known are {', '.join(HONOURED_FIELDS)}")
        if (problem := problem_with(name, value)) is not None:
            raise ValueError(f"its {name} {problem}")
