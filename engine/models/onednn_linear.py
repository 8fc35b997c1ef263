"""Weights in oneDNN's blocked layout: the packed form for float32, and for bfloat16 where our kernel is not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16)
SELF_TEST_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest difference to F.linear over outputs of size about 1: rounding of each type, with room."""


class OneDnnProduct:
    """x [..., K] → x Wᵀ + b [..., N], for any number of rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._packed, self._bias = pack(weight), bias
        self.is_deterministic = False
        """Whether a row's result must not depend on how many there are: a single one is computed otherwise."""

    def __call__(self, x: Tensor) -> Tensor:
        if self.is_deterministic and x.numel() == x.shape[-1]:
            row = x.reshape(1, -1)
            y = packed_linear(torch.cat([row, row]), self._packed, self._bias)
            return y[:1].view(*x.shape[:-1], y.shape[-1])
        return packed_linear(x, self._packed, self._bias)


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """Source: torch/_inductor/fx_passes/mkldnn_fusion.py uses the same two private operators."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, packed, bias, "none", [], "")
    return y


def pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return packed


def refusal(dtype: torch.dtype) -> str | None:
    """Why weights of this type are not packed here, or None. Runs a self-test of the private operators."""
    if dtype not in DTYPES:
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
