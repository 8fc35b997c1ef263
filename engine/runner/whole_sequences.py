"""Hidden states of texts that are computed whole, in one step: encoders, and decoders that look both ways."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from specserve.engine.attention.cpu_kernel import Kernel
from specserve.engine.attention.interface import attention_context
from specserve.engine.attention.sequences import SequenceAttention
from specserve.engine.models import cpu_encoder, fused_encoder
from specserve.engine.models.cpu_encoder import CpuEncoder
from specserve.engine.models.fused_encoder import FusedEncoder
from specserve.engine.models.linear import replace_linears
from specserve.engine.native.library import ISA_VARIABLE, KernelUnavailableError, asked_isa
from specserve.engine.pooling.load import LoadedPooler
from specserve.engine.request import Request


class WholeSequences:
    """Call it with requests; their tokens lie one behind the other, without padding."""

    def __init__(self, pooler: LoadedPooler, progress: Callable[[float], None]) -> None:
        """Packs the weights for the fastest form that fits; `progress` gets fractions from 0 to 1."""
        loaded = pooler.body
        self._model: Any = loaded.model
        self._device = loaded.device
        self.notes: list[str] = []
        self._attention = SequenceAttention(self._kernel(), ignores_order=pooler.ignores_order)
        self._is_flat = pooler.reaches_attention
        parameters = inspect.signature(self._model.forward).parameters
        self.has_token_types = "token_type_ids" in parameters and int(getattr(loaded.config, "type_vocab_size", 0)) > 1
        self._first_position = first_position(self._model)
        self._encoder: CpuEncoder | None = None
        self._fused: FusedEncoder | None = None
        if self._kernel_is_there and fused_encoder.misfit(self._model, loaded.quantization) is None:
            self._fused = FusedEncoder(self._model, progress)
            self.notes.append("CPU encoder: whole layers in blocks that stay in the cache")
            return
        if self._kernel_is_there and cpu_encoder.misfit(self._model, loaded.quantization) is None:
            self._encoder = CpuEncoder(self._model, self._attention, progress)
            self.notes.append("CPU encoder: fused layers over unpadded texts")
            return
        refusal = replace_linears(self._model, progress, loaded.quantization)
        if refusal is not None and loaded.device.type == "cpu" and not loaded.quantization.is_wanted:
            self.notes.append(f"linear layers run unpacked, more slowly: {refusal}")
        self.notes += loaded.quantization.notes(loaded.num_parameters)
        if not self._is_flat:
            self.notes.append(f"{loaded.architecture} computes one text at a time: its attention is its own")

    def _kernel(self) -> Kernel | None:
        self._kernel_is_there = False
        if self._device.type != "cpu":
            return None
        isa = asked_isa()
        if isa == "torch":
            self.notes.append(f"attention in pure torch, as asked for ({ISA_VARIABLE})")
            return None
        try:
            kernel = Kernel(isa)
        except KernelUnavailableError as error:
            self.notes.append(f"attention in pure torch, slower than the kernel: {error}")
            return None
        self._kernel_is_there = True
        return kernel

    def __call__(self, requests: Sequence[Request]) -> list[Tensor]:
        """Hidden states [T, H] of each request, in the model's type."""
        lengths = [request.num_prompt_tokens for request in requests]
        if not self._is_flat:
            return [self._forward([request], [length])[0] for request, length in zip(requests, lengths, strict=True)]
        if self._fused is not None:
            return list(torch.split(self._forward(requests, lengths), lengths))
        self._attention.plan(lengths, [number_seen(request) for request in requests])
        with attention_context(self._attention):
            return list(torch.split(self._forward(requests, lengths), lengths))

    def _forward(self, requests: Sequence[Request], lengths: list[int]) -> Tensor:
        """[T, H] of all tokens; or of the only request [1, T, H] where positions are the model's own."""
        ids = self._tensor([np.asarray(request.token_ids, dtype=np.int64) for request in requests])
        types = None
        if self.has_token_types:
            types = self._tensor([token_types(request) for request in requests])
        if not self._is_flat:
            arguments = {} if types is None else {"token_type_ids": types[None]}
            if requests[0].num_unseen_tokens:
                seen = torch.arange(len(ids), device=self._device) < number_seen(requests[0])
                arguments["attention_mask"] = seen.long()[None]
            hidden: Tensor = self._model(input_ids=ids[None], **arguments).last_hidden_state
            return hidden
        first = self._first_position
        positions = self._tensor([np.arange(first, first + length) for length in lengths])
        if self._fused is not None:
            return self._fused(ids, positions, types, lengths, [number_seen(request) for request in requests])
        if self._encoder is not None:
            return self._encoder(ids, positions, types)
        arguments = {} if types is None else {"token_type_ids": types[None]}
        output = self._model(input_ids=ids[None], position_ids=positions[None], **arguments)
        flat: Tensor = output.last_hidden_state[0]
        return flat

    def _tensor(self, pieces: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(pieces)).to(self._device)


def token_types(request: Request) -> np.ndarray:
    if request.token_type_ids is None:
        return np.zeros(request.num_prompt_tokens, dtype=np.int64)
    return np.asarray(request.token_type_ids, dtype=np.int64)


def number_seen(request: Request) -> int:
    """How many of its tokens, from the first on, are seen by all of them."""
    return request.num_prompt_tokens - request.num_unseen_tokens


def first_position(model: Any) -> int:
    """Number of a text's first position: RoBERTa and its kind count from behind the padding's."""
    embeddings: Any = getattr(model, "embeddings", None)
    if hasattr(embeddings, "create_position_ids_from_input_ids"):
        return int(embeddings.padding_idx) + 1
    return 0
