"""What follows the transformer: hidden states of sequences in, the values that requests asked for out.

Every sequence is treated by itself: what is computed beside it changes nothing. All of it in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from specserve.engine.config import PoolerConfig
from specserve.engine.errors import ModelLoadError, UnsupportedModelError
from specserve.engine.params import PoolingParams, PoolingTask
from specserve.engine.pooling.folder import (
    DenseModule,
    LayerNormModule,
    Module,
    NormalizeModule,
    PoolingModule,
)
from specserve.engine.pooling.poolers import pool
from specserve.engine.request import Request

READS_ONE_TOKEN = ("cls", "last")
TASKLESS = "the last module of a sentence-transformers folder"


class Head(Protocol):
    def reads_all(self, params: PoolingParams) -> bool:
        """Whether more than the last token's hidden state is needed."""

    def __call__(self, hidden: Sequence[Tensor], requests: Sequence[Request]) -> list[Tensor]:
        """hidden [T, H] of each request, all of its tokens or only the last → float32 values on any device."""


# ---- embeddings ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dense:
    """x → activation(x Wᵀ + b), with the input added if there is a residual."""

    weight: Tensor
    bias: Tensor | None
    activation: nn.Module
    residual: Tensor | None = None
    """[out, in] that the input passes; an empty tensor for the input as it is."""

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(F.linear(x, self.weight, self.bias))
        if self.residual is None:
            return y
        return y + (F.linear(x, self.residual) if self.residual.numel() else x)


@dataclass(frozen=True, slots=True)
class LayerNorm:
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias)


Step = Dense | LayerNorm


class EmbeddingHead:
    """Pooling, dense layers, normalization: the modules of a sentence-transformers folder, or the usual ones.

    Tokens' vectors pass the steps that work on tokens; one vector for the whole text those behind the pooling.
    """

    def __init__(
        self,
        modules: Sequence[Module],
        pooler: PoolerConfig,
        *,
        default_mode: str,
        hidden_size: int,
        device: torch.device,
    ) -> None:
        """`default_mode` pools where neither modules nor `pooler` say how. Raises ModelLoadError."""
        found = next((module for module in modules if isinstance(module, PoolingModule)), None)
        self._modes = found.modes if found is not None else (default_mode,)
        if pooler.pooling_type not in (None, "all", "step"):
            self._modes = (str(pooler.pooling_type),)
        self._on_tokens: list[Step] = []
        self._on_text: list[Step] = []
        normalizes = not modules
        size = hidden_size
        for module in modules:
            match module:
                case DenseModule():
                    dense = load_dense(module, device)
                    (self._on_tokens if module.on_tokens else self._on_text).append(dense)
                    size = dense.weight.shape[0]
                case LayerNormModule():
                    self._on_text.append(load_layer_norm(module, device))
                case PoolingModule():
                    size = hidden_size * len(self._modes)
                case NormalizeModule():
                    normalizes = True
        self.embedding_size = size if modules else hidden_size
        self._normalizes = normalizes if pooler.use_activation is None else pooler.use_activation
        self._dimensions = pooler.dimensions

    def reads_all(self, params: PoolingParams) -> bool:
        return params.task is PoolingTask.TOKEN_EMBED or self._modes != ("last",)

    def __call__(self, hidden: Sequence[Tensor], requests: Sequence[Request]) -> list[Tensor]:
        tokens = [one.float() for one in hidden]
        for step in self._on_tokens:
            tokens = [step(one) for one in tokens]
        values = []
        for one, request in zip(tokens, requests, strict=True):
            params = request.pooling
            assert params is not None
            if params.task is PoolingTask.EMBED:
                one = pool([one], self._modes)
                for step in self._on_text:
                    one = step(one)
                one = one[0]
            values.append(self._shape(one, params))
        return values

    def _shape(self, x: Tensor, params: PoolingParams) -> Tensor:
        dimensions = params.dimensions or self._dimensions
        x = x if dimensions is None else x[..., :dimensions]
        normalizes = self._normalizes if params.use_activation is None else params.use_activation
        return F.normalize(x, dim=-1) if normalizes else x


def load_dense(module: DenseModule, device: torch.device) -> Dense:
    activation = getattr(nn, module.activation, None)
    if activation is None:
        raise UnsupportedModelError(f"torch.nn has no activation {module.activation}", "serve another model")
    tensors = _tensors(module.path, device, only=("linear.", "residual."))
    weight = tensors.get("linear.weight")
    if weight is None:
        raise ModelLoadError(f"{module.path} has no linear.weight", "download or export the model again")
    residual = tensors.get("residual.weight", weight.new_empty(0)) if module.has_residual else None
    return Dense(weight, tensors.get("linear.bias"), activation(), residual)


def load_layer_norm(module: LayerNormModule, device: torch.device) -> LayerNorm:
    tensors = _tensors(module.path, device, only=("norm.",))
    if not {"norm.weight", "norm.bias"} <= tensors.keys():
        raise ModelLoadError(f"{module.path} lacks norm.weight or norm.bias", "download or export the model again")
    return LayerNorm(tensors["norm.weight"], tensors["norm.bias"])


def _tensors(folder: object, device: torch.device, only: tuple[str, ...]) -> dict[str, Tensor]:
    path = f"{folder}/model.safetensors"
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            names = [name for name in file.keys() if name.startswith(only)]  # noqa: SIM118 - not a dict
            return {name: file.get_tensor(name).float() for name in names}
    except (OSError, FileNotFoundError) as error:
        raise ModelLoadError(
            f"{path} cannot be read: {error}",
            "weights are read from safetensors only; save the model again with a present sentence-transformers",
        ) from error
