"""Llama-shaped decoders on NVIDIA GPUs: joined projections, and one kernel for all that lies between two products.

Built from the loaded transformers module, whose layers are given up as they are joined; the module stays the truth of
the tests. Nothing in a step waits for the device, so that a step can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel

from specserve.engine.adapter import AdapterRows
from specserve.engine.attention.backend import AttentionBackend, LayerCache, LayerSpec
from specserve.engine.kernels.rms_norm import add_rms_norm, rms_norm
from specserve.engine.kernels.rotary_write import rotary_write
from specserve.engine.kernels.silu_mul import silu_mul
from specserve.engine.models.clock import Clock
from specserve.engine.models.gpu_adapters import GpuAdapter, add_to
from specserve.engine.models.low_rank import LayerWidths, LowRank, add_to_head
from specserve.engine.models.quantization import Quantization
from specserve.engine.models.row_products import Product, choose_tiles

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""Classes whose layers are computed exactly as here; the tests compare each."""


class SlotBackend(AttentionBackend, Protocol):
    """Backends whose caches are [slots, K, D], so that a kernel may write them.

    slots  [T] int64  where the planned step's tokens go
    """

    slots: Tensor

    def note_written(self, layer: int, key: Tensor, value: Tensor) -> None:
        """In the place of `write_kv`: keys [T, K, D] and values [T, K, D] are in their slots already."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one layer; the products of queries, keys and values are one, and those of gate and up."""

    attention_norm: Tensor
    qkv: Product
    query_norm: Tensor | None
    key_norm: Tensor | None
    out: Product
    mlp_norm: Tensor
    gate_up: Product
    down: Product


def misfit(model: PreTrainedModel, specs: Sequence[LayerSpec], backend: AttentionBackend) -> str | None:
    """Why the decoder cannot compute this model, or None."""
    if type(model).__name__ not in ARCHITECTURES:
        return f"{type(model).__name__} has no lean decoder"
    if backend.name not in ("xformers", "triton"):
        return f"the {backend.name} attention backend has caches of its own layout"
    config: Any = model.config
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act}, the lean decoder computes silu"
    if any(spec.head_size % 2 or spec.value_head_size != spec.head_size or spec.has_sinks for spec in specs):
        return "its attention is not that of the lean decoder"
    if len({spec.dtype for spec in specs}) > 1:
        return "its layers compute in different types"
    return None


class GpuDecoder:
    """Call it with a step's tokens; `bind` has to be called once before, with the KV cache."""

    def __init__(
        self,
        model: PreTrainedModel,
        num_layers: int,
        backend: SlotBackend,
        progress: Callable[[float], None],
        quantization: Quantization,
    ) -> None:
        """Takes over `model`, which fits (see `misfit`): its layers are given up one by one."""
        body: Any = model.model
        self._epsilon = float(model.config.rms_norm_eps)
        self._backend = backend
        self._layers: list[Layer] = []
        self._widths = LayerWidths.of(body.layers[0])
        for index in range(num_layers):
            self._layers.append(_joined(body.layers[index], quantization))
            body.layers[index] = nn.Identity()
            progress((index + 1) / num_layers)
        self._rotary = body.rotary_emb
        self._final_norm = body.norm.weight.detach()
        self._head = Product(quantization, quantization.head, model.lm_head)
        self._caches: Sequence[LayerCache] = ()

    def pack_adapter(self, weights: Mapping[str, LowRank]) -> GpuAdapter:
        """`weights` by the names of the linears of the transformers module."""
        return GpuAdapter(weights, len(self._layers), self._widths, self._final_norm.dtype, self._final_norm.device)

    def choose_tiles(self, seconds: Clock) -> list[str]:
        """Settle, by measuring, how one row is multiplied; notes for the start banner."""
        products = [product for layer in self._layers for product in (layer.qkv, layer.out, layer.gate_up, layer.down)]
        return choose_tiles([*products, self._head], seconds)

    def bind(self, caches: Sequence[LayerCache]) -> None:
        self._caches = caches

    def __call__(
        self, hidden: Tensor, positions: Tensor, rows: Tensor | None, adapters: Sequence[AdapterRows] = ()
    ) -> Tensor:
        """hidden [T, H], overwritten; positions [T] int64 → logits [R, V] of the rows [R], None for all of them.

        The backend has planned the step. The weights of `adapters` are GpuAdapters.
        """
        cos, sin = (part[0] for part in self._rotary(hidden[None], positions[None]))
        residual, epsilon = hidden, self._epsilon
        normed = rms_norm(residual, self._layers[0].attention_norm, epsilon)
        following = [layer.attention_norm for layer in self._layers[1:]] + [self._final_norm]
        for index, (layer, next_norm) in enumerate(zip(self._layers, following, strict=True)):
            cache = self._caches[index]
            query, key, value = rotary_write(
                add_to(layer.qkv(normed), normed, adapters, index, "qkv"),
                cos,
                sin,
                self._backend.slots,
                cache.keys,
                cache.values,
                layer.query_norm,
                layer.key_norm,
                epsilon,
            )
            self._backend.note_written(index, key, value)
            attended = self._backend.attend(index, query, cache)
            attended = attended.flatten(1)
            out = add_to(layer.out(attended), attended, adapters, index, "out")
            normed = add_rms_norm(out, residual, layer.mlp_norm, epsilon)
            inner = silu_mul(add_to(layer.gate_up(normed), normed, adapters, index, "gate_up"))
            normed = add_rms_norm(
                add_to(layer.down(inner), inner, adapters, index, "down"), residual, next_norm, epsilon
            )
        wanted = normed if rows is None else normed[rows]
        logits = self._head(wanted)
        return logits if rows is None else add_to_head(logits, wanted, rows, adapters)


def _joined(layer: Any, quantization: Quantization) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    query_norm, key_norm = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))

    def product(*linears: nn.Linear) -> Product:
        return Product(quantization, quantization.layers, *linears)

    return Layer(
        attention_norm=layer.input_layernorm.weight.detach(),
        qkv=product(attention.q_proj, attention.k_proj, attention.v_proj),
        query_norm=None if query_norm is None else query_norm.weight.detach(),
        key_norm=None if key_norm is None else key_norm.weight.detach(),
        out=product(attention.o_proj),
        mlp_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=product(mlp.gate_proj, mlp.up_proj),
        down=product(mlp.down_proj),
    )
