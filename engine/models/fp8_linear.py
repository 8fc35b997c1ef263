"""Linear layers in 8-bit floats, for GPUs that multiply them: weights rounded on load, activations in each step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from specserve.engine.models.weight_forms import FP8
from specserve.engine.registry import LazyRegistry

RowQuantizer = Callable[[Tensor], tuple[Tensor, Tensor]]
"""x [T, K] → q [T, K] float8_e4m3fn and scales [T, 1] float32, x ≈ q * scale."""

KERNELS: LazyRegistry[RowQuantizer] = LazyRegistry({"fp8_rows": "specserve.engine.kernels.fp8_rows:fp8_rows"})
"""Imported on GPUs only: they need Triton."""
SIDES = 16
"""K and N of a product are multiples of it. Source: cuBLAS, requirements of FP8 matrix multiplication."""
FIRST_CAPABILITY = (8, 9)
SELF_TEST_TOLERANCE = 0.15
"""Of outputs of size about 1: two roundings to 4 bits of mantissa, averaged over 64 inputs, stay below 0.1."""


class Fp8Product:
    """x [..., K] → x Wᵀ + b [..., N] in bfloat16: one scale for each row of W and of x.

    weight [N, K] float8_e4m3fn, scales [N] float32
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """K and N fit (see `fits`)."""
        self.weight, self.scales = FP8.pack(weight)
        self._bias = bias
        self._quantize = KERNELS.load("fp8_rows") if weight.is_cuda else FP8.rows

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, -2)
        rows, scales = self._quantize(flat)
        out: Tensor = torch._scaled_mm(
            rows, self.weight.t(), scale_a=scales, scale_b=self.scales[None], bias=self._bias, out_dtype=torch.bfloat16
        )
        return out.view(*x.shape[:-1], -1)


def fits(weight: Tensor) -> bool:
    return weight.dtype == torch.bfloat16 and not any(side % SIDES for side in weight.shape)


def refusal(device: torch.device) -> str | None:
    """Why a device cannot multiply 8-bit floats, or None. Runs a self-test."""
    if device.type != "cuda":
        return f"8-bit floats are for NVIDIA GPUs, not for {device}"
    capability = torch.cuda.get_device_capability(device)
    if capability < FIRST_CAPABILITY:
        major, minor = capability
        return f"the GPU has compute capability {major}.{minor}, 8-bit floats need 8.9 (Ada) or 9.0 (Hopper)"
    return self_test(device)


def self_test(device: torch.device) -> str | None:
    """A product of 17 rows beside the same in float32; the sentence if it does not run or is not that."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(17, 64, generator=generator).to(device, torch.bfloat16)
    weight = (torch.randn(48, 64, generator=generator) / 8).to(device, torch.bfloat16)
    try:
        found = Fp8Product(weight, None)(x)
    except Exception as error:  # the compiler, the driver and the library raise what they like
        return f"a product of 8-bit floats does not run here ({type(error).__name__}: {str(error).splitlines()[0]})"
    difference = float((found.float() - x.float() @ weight.float().T).abs().max())
    if not difference <= SELF_TEST_TOLERANCE:
        return f"a product of 8-bit floats is off by {difference:.1e} in its self-test"
    return None
