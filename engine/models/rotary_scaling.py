"""Rotary scaling that changes with the sequence, fixed for the longest one."""

from __future__ import annotations

import torch
from torch import nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from specserve.engine.context_length import rope_parameters


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
        rope = rope_parameters(config)
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
