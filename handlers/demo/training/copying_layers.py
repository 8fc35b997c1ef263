"""Two layers put beneath a trained model, whose attention copies from the first step on.

A model this small does not discover copying in the time it is given: it learns its facts and guesses at
the rest. So the lower of these layers starts with heads that look one and two tokens back, and the upper
with heads that look for the place where the current token stood before and read what came next
("induction heads", Olsson et al. 2022). Nothing else of them writes anything at first, so the model
still knows what it knew; training then moves everything.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from transformers import Qwen3ForCausalLM

GAIN = 1.6  # of queries and keys in these two layers: sharp enough to pick one token
LOUDNESS = 0.5  # of what the lower layer writes, against the embeddings
NUM_FREQUENCIES = 5  # the fastest of the rotary frequencies tell neighbours apart


def looking_back(head_size: int, theta: float, distance: float) -> Tensor:
    """A key [D] that the query of distance 0 finds `distance` tokens back."""
    half = head_size // 2
    angles = theta ** (-torch.arange(NUM_FREQUENCIES) / half) * distance
    key = torch.zeros(head_size)
    key[:NUM_FREQUENCIES] = angles.cos()
    key[half : half + NUM_FREQUENCIES] = angles.sin()
    return key


def common_direction(normed: Tensor) -> Tensor:
    """A direction [H] on which every token [V, H] has about the same positive share."""
    solution: Tensor = torch.linalg.lstsq(normed, torch.ones(len(normed), 1), driver="gelsd").solution
    return solution[:, 0]


def unread_directions(model: Qwen3ForCausalLM, count: int) -> Tensor:
    """Orthonormal directions [count, H] of the residual stream that layers and vocabulary read least."""
    embedding = model.model.embed_tokens.weight
    use = embedding.T @ embedding / embedding.square().mean() / len(embedding)
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for norm, readers in (
            (layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
            (layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
        ):
            for reader in readers:
                weight = reader.weight * norm.weight
                use = use + weight.T @ weight / weight.square().mean() / len(weight)
    directions: Tensor = torch.linalg.eigh(use).eigenvectors
    return directions[:, :count].T


@torch.no_grad()
def with_copying_layers(model: Qwen3ForCausalLM) -> Qwen3ForCausalLM:
    """The model with two more layers at the bottom. The first key-value group of each starts by hand."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers += 2
    config.layer_types = ["full_attention"] * config.num_hidden_layers
    grown = Qwen3ForCausalLM(config)
    grown.model.embed_tokens.load_state_dict(model.model.embed_tokens.state_dict())
    grown.model.norm.load_state_dict(model.model.norm.state_dict())
    for old, new in zip(model.model.layers, grown.model.layers[2:], strict=True):
        new.load_state_dict(old.state_dict())
    grown.tie_weights()

    size, group = config.head_dim, config.num_attention_heads // config.num_key_value_heads
    theta = float(config.rope_parameters["rope_theta"])
    embedding = model.model.embed_tokens.weight
    normed = embedding * embedding.square().mean(1, keepdim=True).rsqrt()
    common = common_direction(normed)
    seen = torch.linalg.eigh(torch.cov(normed.T)).eigenvectors[:, -size:].T  # [D, H] what is read of a token
    carried = unread_directions(model, group * size)  # [G * D, H] where it is written about the tokens before
    for layer in grown.model.layers[:2]:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        layer.self_attn.q_norm.weight.fill_(GAIN)
        layer.self_attn.k_norm.weight.fill_(GAIN)
    first, second = (layer.self_attn for layer in grown.model.layers[:2])
    first.k_proj.weight[:size] = torch.outer(looking_back(size, theta, 1), common)
    first.v_proj.weight[:size] = seen * embedding.square().mean().sqrt() * LOUDNESS
    for index in range(group):
        rows = slice(index * size, (index + 1) * size)
        first.q_proj.weight[rows] = torch.outer(looking_back(size, theta, -index), common)
        first.o_proj.weight[:, rows] = carried[rows].T
        second.q_proj.weight[rows] = seen
    second.k_proj.weight[:size] = carried[:size]
    return grown
