"""BERT-shaped encoders on CPUs with AVX512_BF16 and without AMX: a step in one call of native/encoder.cpp.

Built from the loaded transformers module, whose layers are given up as they are packed. Where the processor has AMX,
oneDNN's products are faster, and cpu_encoder.py computes the same models.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from specserve.engine.models import cpu_encoder, cpu_linear
from specserve.engine.models.cpu_encoder import NormWeight, encoder_blocks
from specserve.engine.models.cpu_linear import ISA, LinearWeight, PackedWeight
from specserve.engine.models.quantization import Quantization
from specserve.engine.native.library import KernelUnavailableError, load_library

GELU, GELU_TANH, RELU = range(3)
ACTIVATIONS = {"gelu": GELU, "gelu_new": GELU_TANH, "gelu_pytorch_tanh": GELU_TANH, "relu": RELU}
"""Activation in native/encoder.h."""
FEATURES = 32
"""Of a product, side by side: sizes are multiples of it."""
LANES, PAGE, LARGEST_HEAD = 16, 16, 256
_POINTER, _INT32, _INT64, _FLOAT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_float


class EncoderLayer(ctypes.Structure):
    """Mirrors the struct of the same name in native/encoder.h."""

    _fields_ = (
        *((name, LinearWeight) for name in ("qkv", "out", "inner", "down")),
        *((name, NormWeight) for name in ("attention_norm", "output_norm")),
    )


class EmbeddingTable(ctypes.Structure):
    """Mirrors the struct of the same name in native/encoder.h."""

    _fields_ = (("rows", _POINTER), ("count", _INT64))


class EncoderArgs(ctypes.Structure):
    """Mirrors the struct of the same name in native/encoder.h."""

    _fields_ = (
        ("layers", ctypes.POINTER(EncoderLayer)),
        *((name, EmbeddingTable) for name in ("words", "positions", "types")),
        ("norm", NormWeight),
        *((name, _POINTER) for name in ("ids", "places", "kinds", "starts", "seen", "hidden")),
        *((name, _POINTER) for name in ("queries", "keys", "values", "own")),
        *((name, _INT32) for name in ("num_layers", "num_texts", "hidden_size", "inner_size", "head_size")),
        *((name, _INT32) for name in ("num_threads", "activation")),
        ("epsilon", _FLOAT),
        ("scale", _FLOAT),
    )


def misfit(model: nn.Module, quantization: Quantization) -> str | None:
    """Why the fused encoder cannot compute this model, or None."""
    refusal = cpu_encoder.misfit(model, quantization)
    if refusal is not None:
        return refusal
    config: Any = model.config
    head_size = config.hidden_size // config.num_attention_heads
    if config.hidden_size % FEATURES or inner_size(config) % FEATURES:
        return f"its sizes {config.hidden_size} and {inner_size(config)} are not multiples of {FEATURES}"
    if head_size % LANES or head_size > LARGEST_HEAD:
        return f"its heads have {head_size} dimensions"
    try:
        cpu_linear.self_test()
    except KernelUnavailableError as error:
        return str(error)
    return None


def inner_size(config: Any) -> int:
    return int(config.hidden_dim if hasattr(config, "hidden_dim") else config.intermediate_size)


class FusedEncoder:
    """Call it with a step's tokens; scratch space grows with the largest step."""

    def __init__(self, model: Any, progress: Callable[[float], None]) -> None:
        """Takes over `model`, which fits (see `misfit`): its layers are freed one by one."""
        config = model.config
        library = load_library()
        self._run = library.function(f"specserve_encode_{ISA}")
        self._scratch_of = library.function("specserve_encoder_scratch")
        self._scratch_of.restype = ctypes.c_int64
        self._kept: list[Tensor | PackedWeight] = []
        """What the structures point to."""
        embeddings = model.embeddings
        blocks = encoder_blocks(model)
        self._layers = (EncoderLayer * len(blocks))()
        for index in range(len(blocks)):
            parts = cpu_encoder.parts_of(blocks[index])
            self._layers[index] = EncoderLayer(
                qkv=self._weight(*parts.qkv),
                out=self._weight(parts.out),
                inner=self._weight(parts.inner),
                down=self._weight(parts.down),
                attention_norm=self._norm(parts.attention_norm),
                output_norm=self._norm(parts.output_norm),
            )
            epsilon = parts.output_norm.eps
            blocks[index] = nn.Identity()
            progress((index + 1) / len(blocks))
        self._hidden_size = int(config.hidden_size)
        self._queries = self._pages = self._own = torch.empty(0, dtype=torch.bfloat16)
        head_size = self._hidden_size // int(config.num_attention_heads)
        self._args = EncoderArgs(
            layers=self._layers,
            words=self._table(embeddings.word_embeddings),
            positions=self._table(embeddings.position_embeddings),
            types=self._table(getattr(embeddings, "token_type_embeddings", None)),
            norm=self._norm(embeddings.LayerNorm),
            num_layers=len(blocks),
            hidden_size=self._hidden_size,
            inner_size=inner_size(config),
            head_size=head_size,
            activation=ACTIVATIONS[cpu_encoder.activation_of(model)],
            epsilon=epsilon,
            scale=head_size**-0.5,
        )

    def __call__(
        self, ids: Tensor, positions: Tensor, types: Tensor | None, lengths: Sequence[int], seen: Sequence[int]
    ) -> Tensor:
        """ids, positions, types [T] int64 of texts of these lengths → last hidden states [T, H] float32.

        All of a text see its first `seen` tokens.

        Raises IndexError for an id or a position without an embedding.
        """
        args, size = self._args, self._hidden_size
        starts = torch.zeros(len(lengths) + 1, dtype=torch.int32)
        starts[1:] = torch.tensor(lengths, dtype=torch.int32).cumsum(0)
        counts = torch.tensor(seen, dtype=torch.int32)
        hidden = torch.empty(len(ids), size)
        args.num_threads, args.num_texts = torch.get_num_threads(), len(lengths)
        args.ids, args.places, args.starts = ids.data_ptr(), positions.data_ptr(), starts.data_ptr()
        args.kinds = None if types is None else types.data_ptr()
        args.seen, args.hidden = counts.data_ptr(), hidden.data_ptr()
        self._reserve(len(ids), sum(-(-length // PAGE) for length in lengths))
        result = self._run(ctypes.byref(args))
        if result == 1:
            raise MemoryError("no memory for the blocks of a step")
        if result:
            raise IndexError("a token's id, position or type has no embedding")
        return hidden

    def _reserve(self, num_tokens: int, num_pages: int) -> None:
        args, size = self._args, self._hidden_size
        if num_tokens * size > self._queries.numel():
            self._queries = torch.empty(num_tokens * size, dtype=torch.bfloat16)
        if 4 * num_pages * PAGE * size > self._pages.numel():
            self._pages = torch.empty(4 * num_pages * PAGE * size, dtype=torch.bfloat16)
        num_bytes = args.num_threads * self._scratch_of(ctypes.byref(args))
        if num_bytes > 2 * self._own.numel():
            self._own = torch.empty(num_bytes // 2, dtype=torch.bfloat16)
        args.queries, args.keys, args.own = self._queries.data_ptr(), self._pages.data_ptr(), self._own.data_ptr()
        args.values = self._pages[2 * num_pages * PAGE * size :].data_ptr()

    def _weight(self, *linears: nn.Linear) -> LinearWeight:
        """Several linears are one product, side by side."""
        packed = PackedWeight(
            torch.cat([linear.weight.detach() for linear in linears]),
            torch.cat([linear.bias.detach() for linear in linears]),
        )
        self._kept.append(packed)
        return packed.struct

    def _norm(self, norm: nn.LayerNorm) -> NormWeight:
        weight, bias = norm.weight.detach().float(), norm.bias.detach().float()
        self._kept += [weight, bias]
        return NormWeight(weight=weight.data_ptr(), bias=bias.data_ptr())

    def _table(self, embedding: nn.Embedding | None) -> EmbeddingTable:
        if embedding is None:
            return EmbeddingTable(rows=None, count=0)
        rows = embedding.weight.detach().contiguous()
        self._kept.append(rows)
        return EmbeddingTable(rows=rows.data_ptr(), count=rows.shape[0])
