"""`--quantization`: which linear layers of a model get which form of weights, and what became of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from specserve.engine.config import NO_QUANTIZATION, QUANTIZATIONS
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.models import fp8_linear
from specserve.engine.models.cpu_linear import check_form
from specserve.engine.models.weight_forms import BFLOAT16, FP8, INT4, INT8, CpuForm, Fp8, WeightForm
from specserve.engine.native.library import KernelUnavailableError

KEPT = frozenset({"gate", "router", "shared_expert_gate"})
"""Names of layers that choose experts: few weights, and a choice that rounding would turn."""


class Quantization:
    """Forms of the layers of one model, and counts of what was packed in them.

    int4 keeps the language head in int8, fp8 in bfloat16: the last layer's rounding is not averaged by any other.
    """

    def __init__(self, name: str = NO_QUANTIZATION) -> None:
        self.name = name
        self._counts: dict[str, int] = {}

    @property
    def is_wanted(self) -> bool:
        return self.name != NO_QUANTIZATION

    @property
    def layers(self) -> WeightForm:
        forms: dict[str, WeightForm] = {INT8.name: INT8, INT4.name: INT4, FP8.name: FP8}
        return forms.get(self.name, BFLOAT16)

    @property
    def head(self) -> CpuForm:
        return INT8 if self.name in (INT8.name, INT4.name) else BFLOAT16

    def form_of(self, name: str, layer: nn.Module, head: nn.Module | None) -> WeightForm:
        """Of a layer that hangs under `name` in its parent, in a model whose language head is `head`."""
        if name in KEPT or layer.weight.dtype != torch.bfloat16:  # some models keep a few layers in float32
            return BFLOAT16
        return self.head if layer is head else self.layers

    def count(self, form: WeightForm, num_weights: int) -> None:
        if form is not BFLOAT16:
            self._counts[form.name] = self._counts.get(form.name, 0) + num_weights

    def notes(self, num_parameters: int) -> list[str]:
        """One line for the start banner; `num_parameters` are those of the whole model."""
        if not self.is_wanted:
            return []
        parts = [f"{count / 1e6:.1f} M in {name}" for name, count in sorted(self._counts.items())]
        rounded = ", ".join(parts) or "none"
        return [f"quantized on load: {rounded} of {num_parameters / 1e6:.1f} M parameters"]


def check(quantization: Quantization, device: torch.device, dtype: torch.dtype) -> None:
    """Raises UnsupportedModelError where the weights cannot be had in this form."""
    flag = f"--quantization {quantization.name}"
    if not quantization.is_wanted:
        return
    if quantization.name not in QUANTIZATIONS:
        raise UnsupportedModelError(f"{flag} is not supported", f"use one of {', '.join(QUANTIZATIONS)}")
    if isinstance(quantization.layers, Fp8):
        why_not = fp8_linear.refusal(device)
        if why_not is not None:
            raise UnsupportedModelError(f"{flag} cannot be had here: {why_not}", "leave it out, or use int8 on a CPU")
    elif device.type != "cpu":
        raise UnsupportedModelError(f"{flag} is for CPUs, not for {device}", "leave it out, or use --device cpu")
    if dtype != torch.bfloat16:
        name = str(dtype).removeprefix("torch.")
        raise UnsupportedModelError(
            f"{flag} computes with activations in bfloat16, not in {name}", "leave out --dtype, or give bfloat16"
        )
    try:
        for form in {quantization.layers, quantization.head}:
            if not isinstance(form, Fp8):
                check_form(form)
    except KernelUnavailableError as error:
        raise UnsupportedModelError(
            f"{flag} cannot be had here: {error}",
            "it needs a processor with AVX512_BF16 (AMD Zen 4, Intel Sapphire Rapids or newer) and a C++ compiler; "
            "leave it out to serve unquantized weights",
        ) from error


def language_head(model: Any) -> nn.Module | None:
    head = model.get_output_embeddings()
    return head if isinstance(head, nn.Module) else None
