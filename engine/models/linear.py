"""One linear layer for every model: y = x Wᵀ + b, with the weight in the form the device multiplies fastest.

On CPUs that is oneDNN's blocked layout, packed once. The packed form serves any number of rows; the plain
weight is dropped, so that weights are held once (a tied embedding keeps its own plain copy).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

PACKABLE = (torch.float32, torch.bfloat16)
SELF_TEST_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest difference to F.linear over outputs of size about 1: rounding of each type, with room."""


class Linear(nn.Module):
    """x [..., in] → [..., out]. `weight` [out, in] is given in the plain form.

    After packing, `weight` is a tensor of the same shape and type on the meta device: model code may look at
    its type, and computing with it fails loudly.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, packed: Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.packed = packed
        if packed is None:
            self.weight = nn.Parameter(weight, requires_grad=False)
        else:
            self.weight = torch.empty(weight.shape, dtype=weight.dtype, device="meta")
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.packed is None:
            return F.linear(x, self.weight, self.bias)
        return packed_linear(x, self.packed, self.bias)

    def extra_repr(self) -> str:
        form = "plain" if self.packed is None else "packed"
        return f"{self.in_features} → {self.out_features}, {self.weight.dtype}, {form}"


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """Source: torch/_inductor/fx_passes/mkldnn_fusion.py uses the same two private operators."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, packed, bias, "none", [], "")
    return y


def pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return packed


def packing_refusal(dtype: torch.dtype, device: torch.device) -> str | None:
    """Why weights of this type are not packed here, or None. Runs a self-test of the private operators."""
    if device.type != "cpu":
        return f"weights are packed on CPUs only, not on {device}"
    if dtype not in PACKABLE:
        return f"no packed form for {dtype}"
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "this CPU has no instructions for bfloat16"
    return _self_test(dtype)


def _self_test(dtype: torch.dtype) -> str | None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    for rows, out_features, in_features in ((1, 48, 80), (7, 130, 33)):
        x, bias = random(rows, in_features), random(out_features)
        weight = random(out_features, in_features) / in_features**0.5
        try:
            got = packed_linear(x, pack(weight), bias)
        except (AttributeError, RuntimeError) as error:
            return f"oneDNN's packed linear does not run here ({str(error).splitlines()[0]})"
        difference = float((got.float() - F.linear(x.float(), weight.float(), bias.float())).abs().max())
        if not difference <= SELF_TEST_TOLERANCE[dtype]:
            return f"oneDNN's packed linear is off by {difference:.1e} in its self-test"
    return None


def replace_linears(model: nn.Module, progress: Callable[[float], None]) -> str | None:
    """Swap every nn.Linear and Conv1D of `model` for ours, in place, packing weights where that is possible.

    Returns why nothing was packed, or None. Subclasses of nn.Linear are left alone: they do something else.
    """
    places: dict[nn.Linear | Conv1D, list[tuple[nn.Module, str]]] = {}  # a module may hang in two of them
    for parent in model.modules():
        for name, child in parent.named_children():
            if type(child) in (nn.Linear, Conv1D):
                places.setdefault(child, []).append((parent, name))
    total = sum(child.weight.numel() for child in places) or 1
    refusals: dict[torch.dtype, str | None] = {}
    done = 0
    while places:  # emptied on the way, so that each plain weight is freed before the next is packed
        child, parents = places.popitem()
        weight = child.weight.detach()
        weight = weight.T.contiguous() if isinstance(child, Conv1D) else weight
        if weight.dtype not in refusals:
            refusals[weight.dtype] = packing_refusal(weight.dtype, weight.device)
        packed = pack(weight) if refusals[weight.dtype] is None else None
        ours = Linear(weight, None if child.bias is None else child.bias.detach(), packed)
        for parent, name in parents:
            setattr(parent, name, ours)
        done += weight.numel()
        progress(done / total)
    reasons = sorted({reason for reason in refusals.values() if reason is not None})
    return "; ".join(reasons) if reasons else None
