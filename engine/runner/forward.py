"""From a step's tokens to logits: through the transformers module, or through the lean decoder where it fits."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from specserve.engine.attention.backend import AttentionBackend, LayerCache, LayerSpec
from specserve.engine.attention.cpu import CpuBackend
from specserve.engine.attention.interface import PagedContext, attention_context
from specserve.engine.lora.adapter_files import Linears
from specserve.engine.lora.linears import AdaptedLinear, AdapterForm, StepRows, adapt, adaptable, pack_by_name
from specserve.engine.models import cpu_decoder
from specserve.engine.models.clock import Clock
from specserve.engine.models.cpu_decoder import CpuDecoder
from specserve.engine.models.cpu_linear import ISA
from specserve.engine.models.linear import replace_linears, set_deterministic
from specserve.engine.models.load import LoadedModel
from specserve.engine.models.low_rank import LowRank
from specserve.engine.models.same_bits import SameBits
from specserve.engine.registry import LazyRegistry
from specserve.engine.runner.inputs import StepInputs


class Forward(Protocol):
    """`bind` is called once with the KV cache, before the first step; `notes` are for the start banner."""

    notes: list[str]
    adapters: AdapterForm | None
    """None where requests have none: inputs must not either."""

    def bind(self, caches: list[LayerCache]) -> None: ...

    def pack_adapter(self, weights: Mapping[str, LowRank]) -> object:
        """What the rows of an adapter with these weights, by names of linears, are computed with."""

    def __call__(
        self, inputs: StepInputs, embeddings: Tensor | None, rows: Tensor, *, only_highest: bool = False
    ) -> Tensor:
        """Logits [R, V] of the rows [R] of T, after the backend has planned the step; of models without a head their
        last hidden states [R, H]. Logits may be overwritten by the next call, hidden states are not.

        `embeddings` [1, T, H] stand for the token ids of `inputs` where they are given. With `only_highest` those that
        are not the highest of their row may be any lower numbers.
        """


@runtime_checkable
class CapturableForward(Forward, Protocol):
    """One whose steps of decodes a graph can hold."""

    def tune(self, seconds: Clock) -> list[str]:
        """Choose by measuring, where decodes can be computed in more ways than one; what became of it, for notes."""

    def decode(self, token_ids: Tensor, positions: Tensor) -> Tensor:
        """token_ids, positions [B] int64 → logits [B, V], after the backend has planned the step."""


class LeanForm(Protocol):
    def of(
        self,
        loaded: LoadedModel,
        specs: Sequence[LayerSpec],
        backend: AttentionBackend,
        progress: Callable[[float], None],
    ) -> Forward | None:
        """None, with nothing packed, where the form does not fit."""


LEAN_FORMS: LazyRegistry[LeanForm] = LazyRegistry({"gpu": "specserve.engine.runner.gpu_forward:GpuForward"})
"""Imported where they are used only: their kernels need Triton."""
GPU_BACKENDS = ("xformers", "triton")


def prepare_forward(
    loaded: LoadedModel,
    specs: dict[int, LayerSpec],
    backend: AttentionBackend,
    progress: Callable[[float], None],
    *,
    with_adapters: bool = False,
) -> Forward:
    """Packs the weights for the fastest form that fits; `progress` gets fractions from 0 to 1."""
    linears = adaptable(loaded.model) if with_adapters else None
    forward = choose_forward(loaded, specs, backend, progress, linears)
    if linears is not None:
        forward.adapters = AdapterForm(linears, forward.pack_adapter, packs_anywhere=loaded.device.type == "cpu")
    return forward


def choose_forward(
    loaded: LoadedModel,
    specs: dict[int, LayerSpec],
    backend: AttentionBackend,
    progress: Callable[[float], None],
    linears: Linears | None,
) -> Forward:
    layers = list(specs.values())
    if (
        isinstance(backend, CpuBackend)
        and backend.is_all_kernel(ISA)
        and cpu_decoder.misfit(loaded.model, layers, loaded.quantization) is None
    ):
        return DecoderForward(loaded, layers, backend, progress)
    if backend.name in GPU_BACKENDS:
        lean = LEAN_FORMS.load("gpu").of(loaded, layers, backend, progress)
        if lean is not None:
            return lean
    return ModuleForward(loaded, backend, list(specs), progress, linears)


class ModuleForward:
    """Any architecture, as transformers computes it, with our attention and our linears."""

    def __init__(
        self,
        loaded: LoadedModel,
        backend: AttentionBackend,
        layer_indices: Sequence[int],
        progress: Callable[[float], None],
        linears: Linears | None = None,
    ) -> None:
        """`layer_indices` are those of the attention layers in the model, in the backend's order.

        `linears` are those that adapters may change.
        """
        self.adapters: AdapterForm | None = None
        refusal = replace_linears(loaded.model, progress, loaded.quantization)
        is_slow = refusal is not None and loaded.device.type == "cpu" and not loaded.quantization.is_wanted
        self.notes = [f"linear layers run unpacked, more slowly: {refusal}"] if is_slow else []
        self.notes += loaded.quantization.notes(loaded.num_parameters)
        self._model: nn.Module = loaded.model
        self._embed: nn.Module = loaded.model.get_input_embeddings()
        self._backend = backend
        self._slot_of = {index: slot for slot, index in enumerate(layer_indices)}
        self._is_headless = loaded.model.get_output_embeddings() is None
        self._keeps_rows = "logits_to_keep" in inspect.signature(loaded.model.forward).parameters
        self._context = PagedContext(backend, [], self._slot_of)
        self._bits: AbstractContextManager[Any] = nullcontext()
        self._rows = StepRows()
        self._adapted: dict[str, AdaptedLinear] = {}
        if linears is not None:
            self._adapted = adapt(loaded.model, linears, self._rows, head_sees_wanted=self._keeps_rows)

    def set_deterministic(self, value: bool) -> str | None:
        """Whether a row's numbers must not depend, by a bit, on the rows beside it. Returns what breaks that, if so."""
        self._bits = SameBits() if value else nullcontext()
        return set_deterministic(self._model, value)

    def bind(self, caches: list[LayerCache]) -> None:
        self._context = PagedContext(self._backend, caches, self._slot_of)

    def pack_adapter(self, weights: Mapping[str, LowRank]) -> object:
        return pack_by_name(weights, self._adapted)

    def __call__(
        self, inputs: StepInputs, embeddings: Tensor | None, rows: Tensor, *, only_highest: bool = False
    ) -> Tensor:
        arguments: dict[str, Any] = {"logits_to_keep": rows} if self._keeps_rows else {}
        if embeddings is None:
            arguments["input_ids"] = inputs.token_ids
        else:
            arguments["inputs_embeds"] = embeddings
        step_rows = self._rows.during(inputs.adapters, inputs.token_ids.shape[1], rows)
        with attention_context(self._context), step_rows, self._bits:
            output = self._model(position_ids=inputs.positions, use_cache=False, **arguments)
        if self._is_headless:
            hidden: Tensor = output.last_hidden_state[0]
            return hidden[rows]
        logits: Tensor = output.logits[0]
        return logits if self._keeps_rows else logits[rows]

    def tune(self, seconds: Clock) -> list[str]:
        return []

    def decode(self, token_ids: Tensor, positions: Tensor) -> Tensor:
        """A graph can hold it where nothing in the model waits for the device; capturing it finds out.

        Of token ids some models look at the first, to warn of padding: embeddings are not looked at.
        """
        embeddings = self._embed(token_ids[None])
        with attention_context(self._context):
            logits: Tensor = self._model(
                inputs_embeds=embeddings, position_ids=positions[None], use_cache=False
            ).logits[0]
        return logits


class DecoderForward:
    """Llama-shaped models on CPUs with AVX512_BF16."""

    def __init__(
        self,
        loaded: LoadedModel,
        specs: Sequence[LayerSpec],
        backend: CpuBackend,
        progress: Callable[[float], None],
    ) -> None:
        self.adapters: AdapterForm | None = None
        self._embed = loaded.model.get_input_embeddings()
        self._decoder = CpuDecoder(loaded.model, specs, backend.block_size, progress, loaded.quantization)
        self._backend = backend
        self.notes = ["CPU decoder: whole steps in one kernel", *loaded.quantization.notes(loaded.num_parameters)]

    def bind(self, caches: list[LayerCache]) -> None:
        self._decoder.bind(caches)

    def __call__(
        self, inputs: StepInputs, embeddings: Tensor | None, rows: Tensor, *, only_highest: bool = False
    ) -> Tensor:
        hidden = self._embed(inputs.token_ids) if embeddings is None else embeddings
        step = self._backend.kernel_step
        return self._decoder(
            hidden[0].float(), inputs.positions[0], step, rows, inputs.adapters, only_highest=only_highest
        )

    def pack_adapter(self, weights: Mapping[str, LowRank]) -> object:
        return self._decoder.pack_adapter(weights)
