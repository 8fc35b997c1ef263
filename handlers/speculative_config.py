"""`--speculative-config`: the JSON that other servers know, as the engine's SpeculativeConfig."""

from __future__ import annotations

from typing import Any

from specserve.engine.config import SPECULATIVE_METHODS, SpeculativeConfig
from specserve.engine.errors import InvalidParameterError
from specserve.handlers.flags import json_object

NUMBERS = ("num_speculative_tokens", "prompt_lookup_max", "prompt_lookup_min")
KEYS = ("method", *NUMBERS)
DEFAULTS = SpeculativeConfig()


def speculative_config(text: str) -> SpeculativeConfig:
    """Raises ValueError with a rule for anything that cannot be done."""
    values = {key: value for key, value in json_object()(text).items() if value is not None}
    method = values.setdefault("method", DEFAULTS.method)
    if method not in SPECULATIVE_METHODS:
        raise ValueError(
            f"must have the method {' or '.join(SPECULATIVE_METHODS)}: {method!r} is not implemented, and neither is "
            "any other that needs a model of its own"
        )
    if "model" in values:
        raise ValueError(f"must name no model: {method} guesses from the text itself")
    if unknown := sorted(values.keys() - set(KEYS)):
        raise ValueError(f"must have no other keys than {', '.join(KEYS)}; {unknown[0]!r} is none of them")
    for key in NUMBERS:
        if type(values.get(key, 1)) is not int:
            raise ValueError(f"must have a whole number in {key}")
    try:
        return SpeculativeConfig(**with_both_lengths(values))
    except InvalidParameterError as error:
        raise ValueError(f"must be valid: {error.message}") from None


def with_both_lengths(values: dict[str, Any]) -> dict[str, Any]:
    """Where only one length of matches is given, the other is its default, or the same if that does not go with it."""
    if "prompt_lookup_min" not in values and "prompt_lookup_max" in values:
        values["prompt_lookup_min"] = min(DEFAULTS.prompt_lookup_min, values["prompt_lookup_max"])
    elif "prompt_lookup_max" not in values and "prompt_lookup_min" in values:
        values["prompt_lookup_max"] = max(DEFAULTS.prompt_lookup_max, values["prompt_lookup_min"])
    return values
