"""The lean decoder on NVIDIA GPUs as a form of the forward pass, eager or captured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from torch import Tensor

from specserve.engine.attention.backend import AttentionBackend, LayerCache, LayerSpec
from specserve.engine.lora.linears import AdapterForm
from specserve.engine.models.clock import Clock
from specserve.engine.models.gpu_decoder import GpuDecoder, SlotBackend, misfit
from specserve.engine.models.load import LoadedModel
from specserve.engine.models.low_rank import LowRank
from specserve.engine.runner.inputs import StepInputs


class GpuForward:
    """Llama-shaped models on GPUs."""

    @classmethod
    def of(
        cls,
        loaded: LoadedModel,
        specs: Sequence[LayerSpec],
        backend: AttentionBackend,
        progress: Callable[[float], None],
    ) -> GpuForward | None:
        if misfit(loaded.model, specs, backend) is not None:
            return None
        return cls(loaded, specs, cast(SlotBackend, backend), progress)

    def __init__(
        self,
        loaded: LoadedModel,
        specs: Sequence[LayerSpec],
        backend: SlotBackend,
        progress: Callable[[float], None],
    ) -> None:
        self.adapters: AdapterForm | None = None
        self._embed = loaded.model.get_input_embeddings()
        self._decoder = GpuDecoder(loaded.model, len(specs), backend, progress, loaded.quantization)
        notes = loaded.quantization.notes(loaded.num_parameters)
        self.notes = ["GPU decoder: joined products, fused norms, rotation and gate", *notes]

    def tune(self, seconds: Clock) -> list[str]:
        return self._decoder.choose_tiles(seconds)

    def bind(self, caches: list[LayerCache]) -> None:
        self._decoder.bind(caches)

    def __call__(
        self, inputs: StepInputs, embeddings: Tensor | None, rows: Tensor, *, only_highest: bool = False
    ) -> Tensor:
        hidden = self._embed(inputs.token_ids) if embeddings is None else embeddings
        return self._decoder(hidden[0], inputs.positions[0], rows, inputs.adapters)

    def pack_adapter(self, weights: Mapping[str, LowRank]) -> object:
        return self._decoder.pack_adapter(weights)

    def decode(self, token_ids: Tensor, positions: Tensor) -> Tensor:
        """token_ids, positions [B] int64 → logits [B, V]: a step that a graph can hold."""
        return self._decoder(self._embed(token_ids), positions, None)
