"""Linears of a transformers module that add to some rows of a step what those rows' adapters say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from specserve.engine.adapter import AdapterRows
from specserve.engine.lora.adapter_files import Linears
from specserve.engine.models.cpu_adapters import PackedLowRank
from specserve.engine.models.cpu_linear import CpuProduct
from specserve.engine.models.linear import Linear
from specserve.engine.models.low_rank import LowRank, PlainLowRank


class Product(Protocol):
    def add_to(self, y: Tensor, x: Tensor) -> None:
        """y [T, out], in place; x [T, in]."""


class Float32Sums:
    """Our packed product beside a linear of the same kind: what it computes for a row depends on no other row."""

    def __init__(self, weights: LowRank) -> None:
        self._packed = PackedLowRank(weights)

    def add_to(self, y: Tensor, x: Tensor) -> None:
        sums = y.float()
        self._packed.add_to(sums, x.contiguous())
        y.copy_(sums)


class StepRows:
    """Whose rows the present step has; set around the forward pass, empty otherwise."""

    def __init__(self) -> None:
        self.adapters: Sequence[AdapterRows] = ()
        self.num_tokens = 0
        self.wanted: Tensor | None = None

    @contextmanager
    def during(self, adapters: Sequence[AdapterRows], num_tokens: int, wanted: Tensor) -> Iterator[None]:
        """A step of `num_tokens` tokens, of which the language head sees those `wanted` [R]."""
        self.adapters, self.num_tokens, self.wanted = adapters, num_tokens, wanted
        try:
            yield
        finally:
            self.adapters, self.num_tokens, self.wanted = (), 0, None


class AdaptedLinear(nn.Module):
    """`linear`, and in its wake what the adapters of a step have for `name`: their weights are mappings by name.

    `sees_wanted`: it gets the wanted rows only, as language heads do.
    """

    weight: Tensor

    def __init__(self, linear: Linear, name: str, rows: StepRows, *, sees_wanted: bool) -> None:
        super().__init__()
        self.linear = linear
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._name, self._rows, self._sees_wanted = name, rows, sees_wanted

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        if not self._rows.adapters:
            return y
        flat_x, flat_y = x.reshape(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        wanted = self._rows.wanted if self._sees_wanted else None
        expected = self._rows.num_tokens if wanted is None else len(wanted)
        if flat_x.shape[0] != expected:
            raise RuntimeError(f"{self._name} got {flat_x.shape[0]} rows in a step of {expected}: which are whose?")
        for each in self._rows.adapters:
            product: Product | None = each.weights.get(self._name)
            if product is None:
                continue
            if wanted is None:
                product.add_to(flat_y[each.start : each.stop], flat_x[each.start : each.stop])
                continue
            mine = ((wanted >= each.start) & (wanted < each.stop)).nonzero()[:, 0]
            if len(mine):
                changed = flat_y[mine]
                product.add_to(changed, flat_x[mine])
                flat_y[mine] = changed
        return y

    def pack(self, weights: LowRank) -> Product:
        """In the form that suits what the linear itself computes with."""
        if isinstance(self.linear.product, CpuProduct) and self.in_features % 2 == 0:
            return Float32Sums(weights)
        return PlainLowRank(weights, self.linear.weight.dtype, self._device)

    @property
    def _device(self) -> torch.device:
        """Packed weights are on the CPU, and leave a tensor without memory behind."""
        device = self.linear.weight.device
        return torch.device("cpu") if device.type == "meta" else device


def adaptable(model: nn.Module) -> Linears:
    """The linears of a loaded model, before any of them is packed, that see every token of a step once."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    sizes: dict[str, tuple[int, int]] = {}
    name_of_head = None
    for name, module in model.named_modules():
        if type(module) not in (nn.Linear, Conv1D) or ".experts." in f".{name}.":
            continue
        shape = tuple(module.weight.shape)
        sizes[name] = (shape[0], shape[1]) if isinstance(module, Conv1D) else (shape[1], shape[0])
        if module is head:
            name_of_head = name
    return Linears(sizes, name_of_head)


def adapt(model: nn.Module, linears: Linears, rows: StepRows, *, head_sees_wanted: bool) -> dict[str, AdaptedLinear]:
    """Wrap the linears that `replace_linears` has put into `model`, in place; returns them by name."""
    found: dict[str, AdaptedLinear] = {}
    for name in linears.sizes:
        parent_name, _, last = name.rpartition(".")
        parent = model.get_submodule(parent_name)
        linear = getattr(parent, last)
        if isinstance(linear, Linear):
            found[name] = AdaptedLinear(linear, name, rows, sees_wanted=head_sees_wanted and name == linears.head)
            setattr(parent, last, found[name])
    return found


def pack_by_name(weights: Mapping[str, LowRank], adapted: Mapping[str, AdaptedLinear]) -> dict[str, Product]:
    return {name: adapted[name].pack(each) for name, each in weights.items()}


@dataclass(frozen=True, slots=True)
class AdapterForm:
    """What a form of the forward pass says of adapters.

    pack            makes weights by name what it computes with
    packs_anywhere  whether that may be done beside a step, on another thread
    """

    linears: Linears
    pack: Callable[[Mapping[str, LowRank]], object]
    packs_anywhere: bool = True
