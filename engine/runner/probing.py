"""What a loaded model's attention layers are, as a tiny forward pass of it shows."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from specserve.engine.attention.backend import LayerSpec
from specserve.engine.attention.interface import ProbingContext, attention_context
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.models.load import LoadedModel, unreachable_attention

PROBE_TOKENS = 2


@torch.inference_mode()
def probe_layers(loaded: LoadedModel) -> dict[int, LayerSpec]:
    """Each attention layer by its index, as a tiny forward pass calls it.

    Raises UnsupportedModelError when layers are missing (recurrent ones, attention of their own) or look
    ahead.
    """
    context = ProbingContext()
    ids = torch.zeros(1, PROBE_TOKENS, dtype=torch.long, device=loaded.device)
    positions = torch.arange(PROBE_TOKENS, device=loaded.device)[None]
    with attention_context(context):
        loaded.model(input_ids=ids, position_ids=positions, use_cache=False)
    num_layers = int(loaded.config.num_hidden_layers)
    if not context.specs:
        raise unreachable_attention(loaded.architecture)
    if len(context.specs) != num_layers:
        raise UnsupportedModelError(
            f"{loaded.architecture} computes attention in {len(context.specs)} of its {num_layers} layers; "
            "the others keep a state that paged blocks cannot hold",
            "serve a model whose layers are all attention layers",
        )
    if looking_ahead := _bidirectional_layers(loaded.model):
        raise UnsupportedModelError(
            f"{loaded.architecture} is not a decoder as configured: {looking_ahead} looks ahead",
            "set is_decoder in config.json if it was trained as one",
        )
    windows = _windows_of_masks(loaded.config, context.specs)
    return {
        index: dataclasses.replace(spec, window=windows.get(index, spec.window))
        for index, spec in sorted(context.specs.items())
    }


def _bidirectional_layers(model: nn.Module) -> str:
    for name, module in model.named_modules():
        if hasattr(module, "layer_idx") and getattr(module, "is_causal", True) is False:
            return str(name)
    return ""


def _windows_of_masks(config: Any, specs: dict[int, LayerSpec]) -> dict[int, int]:
    """Windows by layer for models that tell them to the mask only, not to the attention function."""
    window = getattr(config, "sliding_window", None)
    if not window or any(spec.window is not None for spec in specs.values()):
        return {}
    layer_types = getattr(config, "layer_types", None)
    if layer_types is None:
        return dict.fromkeys(specs, window)
    return {index: window for index in specs if layer_types[index] == "sliding_attention"}
