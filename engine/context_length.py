"""How long a sequence may get: as configured, and as asked. Imports no torch."""

from __future__ import annotations

from typing import Any

from specserve.engine.errors import UnsupportedModelError

STRETCHING = ("linear", "dynamic", "yarn")
"""Rotary scalings whose `factor` multiplies the length; the others' configurations name the final length."""


def model_context_length(config: Any) -> int | None:
    """Tokens the model was made for, rotary scaling included; None when the configuration does not say."""
    longest = getattr(config, "max_position_embeddings", None)
    if not isinstance(longest, int) or longest < 1:
        return None
    rope = rope_parameters(config)
    if rope.get("rope_type") in STRETCHING and rope.get("factor"):
        original = rope.get("original_max_position_embeddings") or longest
        longest = max(longest, int(original * float(rope["factor"])))
    if "chunked_attention" in (getattr(config, "layer_types", None) or ()):
        # Beyond one chunk such layers forget everything before it, which paged attention does not express.
        longest = min(longest, int(config.attention_chunk_size))
    return longest


def choose_max_model_len(config: Any, asked: int | None) -> int:
    """`asked`, or the model's own length. Raises UnsupportedModelError for more than the model has."""
    longest = model_context_length(config)
    if asked is None:
        if longest is None:
            raise UnsupportedModelError(
                "config.json does not say how long a sequence may get (max_position_embeddings)",
                "pass --max-model-len",
            )
        return longest
    if asked < 2:
        raise UnsupportedModelError(
            f"--max-model-len {asked} leaves no room for a prompt and an answer", "pass at least 2"
        )
    if longest is not None and asked > longest:
        raise UnsupportedModelError(
            f"--max-model-len {asked} is more than the {longest} tokens the model was made for",
            f"pass at most {longest}, or give config.json a rope scaling that reaches further",
        )
    return asked


def rope_parameters(config: Any) -> dict[str, Any]:
    rope = getattr(config, "rope_parameters", None) or {}
    return rope if isinstance(rope, dict) else {}
