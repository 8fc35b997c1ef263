"""Llama-shaped decoders on CPUs: one call of native/decoder.cpp computes a step.

Built from the loaded transformers module, whose layers are given up as they are packed; the module stays the
truth of the tests. Activations are bfloat16, the residual stream and the norms float32.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from specserve.engine.adapter import AdapterRows
from specserve.engine.attention.backend import LayerCache, LayerSpec
from specserve.engine.attention.cpu_kernel import KernelStep
from specserve.engine.models.cpu_adapters import CpuAdapter, Rows
from specserve.engine.models.cpu_linear import (
    ISA,
    TURN,
    LinearWeight,
    PackedWeight,
    in_turns,
    scratch_width,
    self_test,
)
from specserve.engine.models.low_rank import LayerWidths, LowRank, add_to_head
from specserve.engine.models.quantization import Quantization
from specserve.engine.models.screened_head import ScreenedHead, fits
from specserve.engine.models.step_memory import StepMemory, places
from specserve.engine.models.weight_forms import CpuForm, Fp8
from specserve.engine.native.library import KernelUnavailableError, load_library

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
BODIES = tuple(name.replace("ForCausalLM", "Model") for name in ARCHITECTURES)
"""Classes whose layers are computed exactly as native/decoder.cpp does, with a head and without; the tests compare."""
MAX_HEAD_SIZE = 512
MOST_KEPT_LOGITS, MOST_KEPT_SCRATCH = 64 << 20, 32 << 20
"""Bytes that stay between steps: logits of 110 rows of 152 000, scratch of 512 tokens of a model of 1 B parameters."""
_POINTER, _INT32, _FLOAT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_float


class DecoderLayer(ctypes.Structure):
    """Mirrors the struct of the same name in native/decoder.h."""

    _fields_ = (
        *((name, _POINTER) for name in ("attention_norm", "mlp_norm", "query_norm", "key_norm")),
        *((name, LinearWeight) for name in ("qkv", "out", "gate_up", "down")),
        *((name, _POINTER) for name in ("keys", "values")),
        ("window", _INT32),
    )


class DecoderArgs(ctypes.Structure):
    """Mirrors the struct of the same name in native/decoder.h."""

    _fields_ = (
        *((name, _POINTER) for name in ("layers", "final_norm")),
        ("head", LinearWeight),
        *((name, _POINTER) for name in ("frequencies", "positions", "slots")),
        *((name, _POINTER) for name in ("block_tables", "seq_lens", "query_start", "rows", "hidden", "logits")),
        *((name, _POINTER) for name in ("normed", "projected", "attended", "inner", "rearranged", "turns")),
        *((name, _POINTER) for name in ("screen", "adapters", "wide", "low")),
        *((name, _INT32) for name in ("num_layers", "num_tokens", "num_rows", "num_seqs", "hidden_size")),
        *((name, _INT32) for name in ("num_heads", "num_kv_heads", "head_size")),
        *((name, _INT32) for name in ("block_size", "table_stride", "is_int8", "num_threads", "num_adapters")),
        *((name, _FLOAT) for name in ("epsilon", "scale", "rotary_scale")),
    )


def misfit(model: PreTrainedModel, specs: Sequence[LayerSpec], quantization: Quantization) -> str | None:
    """Why the decoder cannot compute this model, or None. Runs the self-test of the products in bfloat16.

    Those in other forms have been tested, and are the best there is for them on any processor.
    """
    if type(model).__name__ not in (*ARCHITECTURES, *BODIES):
        return f"{type(model).__name__} has no lean decoder"
    config: Any = model.config
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act}, the lean decoder computes silu"
    sizes = (config.hidden_size, config.intermediate_size, specs[0].head_size)
    if any(size % TURN for size in sizes) or specs[0].head_size > MAX_HEAD_SIZE:
        return f"its sizes {sizes} are not multiples of {TURN}, or a head is larger than {MAX_HEAD_SIZE}"
    if {spec.dtype for spec in specs} != {torch.bfloat16}:
        return "the lean decoder computes in bfloat16"
    if any(spec.softcap or spec.has_sinks or spec.value_head_size != spec.head_size for spec in specs):
        return "its attention is not that of the lean decoder"
    if quantization.is_wanted:
        return None
    try:
        self_test()
    except KernelUnavailableError as error:
        return str(error)
    return None


class CpuDecoder:
    """Call it with a step's tokens; `bind` has to be called once before, with the KV cache."""

    def __init__(
        self,
        model: PreTrainedModel,
        specs: Sequence[LayerSpec],
        block_size: int,
        progress: Callable[[float], None],
        quantization: Quantization,
    ) -> None:
        """Takes over `model`, which fits (see `misfit`): its layers are freed one by one."""
        body: Any = model if type(model).__name__ in BODIES else model.model
        config: Any = model.config
        spec = specs[0]
        self._run = load_library().function(f"specserve_decode_{ISA}")
        self._kept: list[Tensor | PackedWeight] = []
        self._layers = (DecoderLayer * len(specs))()
        self._widths = LayerWidths.of(body.layers[0])
        self._quantization = quantization
        total = len(specs) + 1
        for index, one in enumerate(specs):
            self._layers[index] = self._pack_layer(body.layers[index], one)
            body.layers[index] = nn.Identity()
            progress((index + 1) / total)
        head = LinearWeight()
        if body is not model:
            head = self._pack(model.lm_head.weight.detach(), model.lm_head.bias, quantization.head).struct
            model.lm_head = nn.Identity()
        self._screened = ScreenedHead(head) if fits(head) else None
        progress(1.0)
        self._rotary = body.rotary_emb
        self._inner_size = int(config.intermediate_size)
        self._vocab_size = head.n
        self._args = DecoderArgs(
            layers=ctypes.addressof(self._layers),
            final_norm=self._floats(body.norm.weight),
            head=head,
            frequencies=self._floats(self._rotary.inv_freq),
            num_layers=len(specs),
            hidden_size=config.hidden_size,
            num_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            head_size=spec.head_size,
            block_size=block_size,
            is_int8=int(spec.cache_dtype is torch.int8),
            epsilon=config.rms_norm_eps,
            scale=spec.scale,
            rotary_scale=self._rotary.attention_scaling,
        )
        self._caches: Sequence[LayerCache] = ()
        self._logits, self._scratch = StepMemory(MOST_KEPT_LOGITS), StepMemory(MOST_KEPT_SCRATCH)
        self._prefix = "" if body is model else "model."

    def pack_adapter(self, weights: Mapping[str, LowRank]) -> CpuAdapter:
        """`weights` by the names of the linears of the transformers module."""
        return CpuAdapter(weights, self._prefix, len(self._layers), self._widths)

    def bind(self, caches: Sequence[LayerCache]) -> None:
        """`caches` in the order of the layers; their addresses must not change."""
        self._caches = caches
        for layer, cache in zip(self._layers, caches, strict=True):
            layer.keys, layer.values = cache.keys.data_ptr(), cache.values.data_ptr()

    def __call__(
        self,
        hidden: Tensor,
        positions: Tensor,
        step: KernelStep,
        rows: Tensor,
        adapters: Sequence[AdapterRows] = (),
        *,
        only_highest: bool = False,
    ) -> Tensor:
        """hidden [T, H] float32, overwritten; positions [T] and rows [R] int64 → logits [R, V] float32, which the next
        call overwrites. With `only_highest` those that equal the highest of their row are exact, the others below it.

        Without a head: the last hidden states [R, H] bfloat16. The weights of `adapters` are CpuAdapters. Raises
        MemoryError.
        """
        (num_tokens, size), num_rows, args = hidden.shape, rows.shape[0], self._args
        heads = args.num_heads + 2 * args.num_kv_heads
        most = max(num_tokens, num_rows)
        normed = torch.empty(most, size, dtype=torch.bfloat16)
        low_width = max((each.weights.rank for each in adapters), default=0)
        longest = max(size, args.num_heads * args.head_size, self._inner_size, low_width)
        wide = max(heads * args.head_size, 2 * self._inner_size) if adapters else 0
        scratch = {
            "projected": 2 * heads * args.head_size,
            "attended": 2 * args.num_heads * args.head_size,
            "inner": 2 * self._inner_size,
            "rearranged": 2 * scratch_width(longest),
            "turns": 4 * args.head_size,
            "wide": 4 * wide,
            "low": 2 * low_width,
        }
        offsets, num_bytes = places(*(most * row_bytes for row_bytes in scratch.values()))
        memory = self._scratch.take(num_bytes)
        for name, offset in zip(scratch, offsets, strict=True):
            setattr(args, name, memory.data_ptr() + offset)
        logits = self._logits.take(4 * num_rows * self._vocab_size).view(torch.float32).view(num_rows, self._vocab_size)
        args.positions, args.slots = positions.data_ptr(), step.slots.data_ptr()
        args.block_tables, args.table_stride = step.block_tables.data_ptr(), step.block_tables.shape[1]
        args.seq_lens, args.query_start = step.seq_lens.data_ptr(), step.query_start.data_ptr()
        args.rows, args.num_rows = rows.data_ptr(), num_rows
        args.hidden, args.logits, args.normed = hidden.data_ptr(), logits.data_ptr(), normed.data_ptr()
        runs = (Rows * len(adapters))()
        for run, each in zip(runs, adapters, strict=True):
            run.layers, run.first, run.count = ctypes.addressof(each.weights.layers), each.start, each.stop - each.start
        args.adapters, args.num_adapters = ctypes.addressof(runs), len(adapters)
        args.num_tokens, args.num_seqs, args.num_threads = num_tokens, step.seq_lens.shape[0], step.num_threads
        screened = self._screened if only_highest and not adapters else None
        args.screen = 0 if screened is None else screened.begin(num_rows)
        if self._run(ctypes.byref(args)):
            raise MemoryError("no memory for the scratch space of attention or of the output head")
        if args.screen and screened is not None:
            screened.end()
        if not self._vocab_size:
            return normed[:num_rows]
        return add_to_head(logits, normed[:num_rows], rows, adapters)

    def _pack_layer(self, layer: Any, spec: LayerSpec) -> DecoderLayer:
        attention, mlp = layer.self_attn, layer.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        qkv = torch.cat([projection.weight for projection in projections])
        qkv_bias = (
            torch.cat([projection.bias for projection in projections]) if attention.q_proj.bias is not None else None
        )
        gate_up_bias = in_turns(mlp.gate_proj.bias, mlp.up_proj.bias) if mlp.gate_proj.bias is not None else None
        form = self._quantization.layers
        assert not isinstance(form, Fp8), "8-bit floats are refused on CPUs"
        packed = {
            "qkv": self._pack(qkv, qkv_bias, form),
            "out": self._pack(attention.o_proj.weight, attention.o_proj.bias, form),
            "gate_up": self._pack(in_turns(mlp.gate_proj.weight, mlp.up_proj.weight), gate_up_bias, form),
            "down": self._pack(mlp.down_proj.weight, mlp.down_proj.bias, form),
        }
        norms = {
            "attention_norm": layer.input_layernorm,
            "mlp_norm": layer.post_attention_layernorm,
            "query_norm": getattr(attention, "q_norm", None),
            "key_norm": getattr(attention, "k_norm", None),
        }
        return DecoderLayer(
            **{name: weight.struct for name, weight in packed.items()},
            **{name: None if norm is None else self._floats(norm.weight) for name, norm in norms.items()},
            window=spec.window or 0,
        )

    def _pack(self, weight: Tensor, bias: Tensor | None, form: CpuForm) -> PackedWeight:
        """It is kept as long as the decoder."""
        packed = PackedWeight(weight, bias, form)
        self._kept.append(packed)
        self._quantization.count(form, weight.numel())
        return packed

    def _floats(self, values: Tensor) -> int:
        """Their address as float32; they are kept as long as the decoder."""
        kept = values.detach().to(torch.float32, copy=True).contiguous()
        self._kept.append(kept)
        return kept.data_ptr()
