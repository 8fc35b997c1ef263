"""BERT-shaped encoders on CPUs with bfloat16: oneDNN's products, our attention, and one pass for residual and norm.

Built from the loaded transformers module, whose layers are given up as they are packed; the module stays the truth of
the tests. Many rows are multiplied at once here, for which oneDNN's kernels are the fastest; of a few rows, as in
decoding, ours are (see docs/adr/0005).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from specserve.engine.attention.backend import LayerSpec
from specserve.engine.attention.sequences import SequenceAttention
from specserve.engine.models import onednn_linear
from specserve.engine.models.cpu_linear import ISA
from specserve.engine.models.quantization import Quantization
from specserve.engine.native.library import KernelUnavailableError, load_library, usable_isas

ARCHITECTURES = ("BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel", "DistilBertModel")
"""Classes whose layers are computed exactly as here; the tests compare each."""
ACTIVATIONS = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}
"""oneDNN's name of it, and its way of computing it."""
LANES = 16
_POINTER, _INT32, _FLOAT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_float


class NormWeight(ctypes.Structure):
    """Mirrors the struct of the same name in native/encoder.h."""

    _fields_ = (("weight", _POINTER), ("bias", _POINTER))


class AddNormArgs(ctypes.Structure):
    """Mirrors the struct of the same name in native/encoder.h."""

    _fields_ = (
        ("hidden", _POINTER),
        ("added", _POINTER),
        ("norm", NormWeight),
        ("rounded", _POINTER),
        *((name, _INT32) for name in ("num_tokens", "hidden_size", "num_threads")),
        ("epsilon", _FLOAT),
    )


def misfit(model: nn.Module, quantization: Quantization) -> str | None:
    """Why the lean encoder cannot compute this model, or None."""
    config: Any = model.config
    if type(model).__name__ not in ARCHITECTURES:
        return f"{type(model).__name__} has no lean encoder"
    if quantization.is_wanted:
        return "the lean encoder has no rounded weights"
    if activation_of(model) not in ACTIVATIONS:
        return f"its activation is {activation_of(model)}"
    if next(model.parameters()).dtype != torch.bfloat16:
        return "the lean encoder computes in bfloat16"
    if config.hidden_size % LANES:
        return f"its size {config.hidden_size} is not a multiple of {LANES}"
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        return "it is a decoder"
    try:
        if ISA not in usable_isas(load_library()):
            return f"{ISA} is not there, or another instruction set was asked for"
    except KernelUnavailableError as error:
        return str(error)
    return onednn_linear.refusal(torch.bfloat16)


class Norm:
    """Layer norm of a residual stream [T, H] float32, in place."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        assert norm.weight is not None
        assert norm.bias is not None
        self._weight, self._bias = norm.weight.detach().float(), norm.bias.detach().float()
        self._run = load_library().function(f"specserve_add_norm_{ISA}")
        self._args = AddNormArgs(
            norm=NormWeight(weight=self._weight.data_ptr(), bias=self._bias.data_ptr()),
            hidden_size=self._weight.shape[0],
            epsilon=norm.eps,
        )

    def __call__(self, hidden: Tensor, added: Tensor | None, rounded: Tensor) -> None:
        """hidden := norm(hidden + added), in float32 there and in bfloat16 in `rounded`."""
        args = self._args
        args.hidden, args.rounded, args.num_tokens = hidden.data_ptr(), rounded.data_ptr(), hidden.shape[0]
        args.added = None if added is None else added.data_ptr()
        args.num_threads = torch.get_num_threads()
        self._run(ctypes.byref(args))


class Product:
    """x [T, K] → activation(x Wᵀ + b) [T, N] in bfloat16."""

    def __init__(self, *linears: nn.Linear, activation: str | None = None) -> None:
        """Several linears are one product, side by side."""
        weight = torch.cat([linear.weight.detach() for linear in linears])
        self._bias = torch.cat([linear.bias.detach() for linear in linears])
        self._packed = onednn_linear.pack(weight)
        self._activation = ("none", "") if activation is None else ACTIVATIONS[activation]

    def __call__(self, x: Tensor) -> Tensor:
        name, way = self._activation
        y: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, self._packed, self._bias, name, [], way)
        return y


@dataclass(frozen=True, slots=True)
class LayerParts:
    """The modules of one layer; `qkv` are those of queries, keys and values."""

    qkv: tuple[nn.Linear, nn.Linear, nn.Linear]
    out: nn.Linear
    attention_norm: nn.LayerNorm
    inner: nn.Linear
    down: nn.Linear
    output_norm: nn.LayerNorm


class Layer:
    def __init__(self, parts: LayerParts, activation: str) -> None:
        self.qkv = Product(*parts.qkv)
        self.out = Product(parts.out)
        self.attention_norm = Norm(parts.attention_norm)
        self.inner = Product(parts.inner, activation=activation)
        self.down = Product(parts.down)
        self.output_norm = Norm(parts.output_norm)


class CpuEncoder:
    """Call it with a step's tokens, after `attention.plan`."""

    def __init__(self, model: Any, attention: SequenceAttention, progress: Callable[[float], None]) -> None:
        """Takes over `model`, which fits (see `misfit`): its layers are freed one by one."""
        config = model.config
        self._attention = attention
        self._num_heads = int(config.num_attention_heads)
        self._spec = LayerSpec(
            num_heads=self._num_heads,
            num_kv_heads=self._num_heads,
            head_size=config.hidden_size // self._num_heads,
            value_head_size=config.hidden_size // self._num_heads,
            dtype=torch.bfloat16,
            scale=(config.hidden_size // self._num_heads) ** -0.5,
            is_causal=False,
        )
        self._embeddings = model.embeddings
        self._norm = Norm(model.embeddings.LayerNorm)
        blocks = encoder_blocks(model)
        self._layers = []
        for index in range(len(blocks)):
            self._layers.append(Layer(parts_of(blocks[index]), activation_of(model)))
            blocks[index] = nn.Identity()
            progress((index + 1) / len(blocks))

    def __call__(self, ids: Tensor, positions: Tensor, types: Tensor | None) -> Tensor:
        """ids, positions, types [T] int64 → last hidden states [T, H] float32."""
        embeddings = self._embeddings
        hidden: Tensor = embeddings.word_embeddings(ids).float()
        hidden += embeddings.position_embeddings(positions)
        if (table := getattr(embeddings, "token_type_embeddings", None)) is not None:
            hidden += table.weight[0] if types is None else table(types)
        rounded = torch.empty(hidden.shape, dtype=torch.bfloat16)
        self._norm(hidden, None, rounded)
        step, (kernel, cache) = self._attention.step, self._attention.bound(self._spec)
        for layer in self._layers:
            query, key, value = layer.qkv(rounded).view(len(ids), 3, self._num_heads, -1).unbind(1)
            kernel.write_kv(step, key, value, cache)
            attended = kernel.attend(step, query, cache, None)
            layer.attention_norm(hidden, layer.out(attended.view(len(ids), -1)), rounded)
            layer.output_norm(hidden, layer.down(layer.inner(rounded)), rounded)
        return hidden


def is_distil(model: nn.Module) -> bool:
    """DistilBERT has BERT's layers under other names."""
    return type(model).__name__ == "DistilBertModel"


def activation_of(model: Any) -> str:
    return str(model.config.activation if is_distil(model) else model.config.hidden_act)


def encoder_blocks(model: Any) -> Any:
    """Its layers, as a list whose entries can be replaced."""
    return model.transformer.layer if is_distil(model) else model.encoder.layer


def parts_of(block: Any) -> LayerParts:
    if hasattr(block, "ffn"):
        attention = block.attention
        return LayerParts(
            qkv=(attention.q_lin, attention.k_lin, attention.v_lin),
            out=attention.out_lin,
            attention_norm=block.sa_layer_norm,
            inner=block.ffn.lin1,
            down=block.ffn.lin2,
            output_norm=block.output_layer_norm,
        )
    attention = block.attention.self
    return LayerParts(
        qkv=(attention.query, attention.key, attention.value),
        out=block.attention.output.dense,
        attention_norm=block.attention.output.LayerNorm,
        inner=block.intermediate.dense,
        down=block.output.dense,
        output_norm=block.output.LayerNorm,
    )
