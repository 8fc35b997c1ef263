"""How long a sequence may get: as configured, as asked, and rotary scaling fixed for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from specserve.engine.errors import UnsupportedModelError

STRETCHING = ("linear", "dynamic", "yarn")
"""Rotary scalings whose `factor` multiplies the length; the others' configurations name the final length."""


def model_context_length(config: Any) -> int | None:
    """Tokens the model was made for, rotary scaling included; None when the configuration does not say."""
    longest = getattr(config, "max_position_embeddings", None)
    if not isinstance(longest, int) or longest < 1:
        return None
    rope = _rope_parameters(config)
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


def fix_rotary_scaling(model: nn.Module, max_model_len: int) -> list[str]:
    """Make rotary frequencies that change with the sequence length constant: those for `max_model_len`.

    transformers recomputes them from the longest position of a forward pass. In a batch of mixed requests one
    long sequence would then turn the others' positions, and cached keys would stay in the old form. Returns a
    note for each scaling that was fixed in its long form.
    """
    notes = set()
    for module in model.modules():
        rope_type = getattr(module, "rope_type", None)
        config = getattr(module, "config", None)
        if not isinstance(rope_type, str) or config is None or rope_type not in ("dynamic", "longrope"):
            continue
        rope = _rope_parameters(config)
        original = int(
            rope.get("original_max_position_embeddings")
            or getattr(config, "original_max_position_embeddings", None)
            or config.max_position_embeddings
        )
        device = module.inv_freq.device
        inv_freq, scaling = ROPE_INIT_FUNCTIONS[rope_type](config, device, seq_len=max_model_len)
        if max_model_len > original:
            notes.add(
                f"{rope_type} rotary scaling is fixed for {max_model_len} tokens; at most {original} "
                "(--max-model-len) keeps the unscaled form"
            )
        module.register_buffer("inv_freq", inv_freq.to(torch.float32), persistent=False)
        module.attention_scaling = scaling
        # transformers looks for "dynamic" and "longrope" here to recompute.
        setattr(module, "rope_type", "fixed")  # noqa: B010 - nn.Module declares no such attribute
    return sorted(notes)


def _rope_parameters(config: Any) -> dict[str, Any]:
    rope = getattr(config, "rope_parameters", None) or {}
    return rope if isinstance(rope, dict) else {}
