"""Products in 8-bit floats, which torch computes on CPUs too: those of the rounded numbers."""

from __future__ import annotations

import pytest
import torch

from specserve.engine.errors import UnsupportedModelError
from specserve.engine.models import fp8_linear
from specserve.engine.models.fp8_linear import Fp8Product, fits
from specserve.engine.models.quantization import Quantization, check
from specserve.engine.models.weight_forms import FP8

CPU = torch.device("cpu")


@pytest.mark.parametrize("rows", [1, 5, 33])
@pytest.mark.parametrize("bias", [False, True])
def test_a_product_is_that_of_the_rounded_numbers(rows: int, bias: bool) -> None:
    torch.manual_seed(rows)
    x, weight = torch.randn(rows, 96).bfloat16() * 3, (torch.randn(48, 96) / 10).bfloat16()
    added = torch.randn(48).bfloat16() if bias else None
    found = Fp8Product(weight, added)(x)
    numbers, scales = FP8.rows(x)
    wanted = (numbers.float() * scales) @ FP8.rounded(weight).T + (0 if added is None else added.float())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=2e-2, rtol=1e-2)  # bfloat16 results of size up to 10


def test_rounding_keeps_three_bits_behind_the_first() -> None:
    weight = torch.randn(16, 64).bfloat16()
    error = (FP8.rounded(weight) - weight.float()).abs() / weight.float().abs().clamp_min(0.05)
    assert float(error.max()) <= 2**-4 + 1e-3


def test_rows_of_zeros_stay_zeros() -> None:
    weight = torch.zeros(16, 32).bfloat16()
    assert torch.equal(Fp8Product(weight, None)(torch.zeros(2, 32).bfloat16()), torch.zeros(2, 16).bfloat16())


def test_any_leading_shape_is_kept() -> None:
    assert Fp8Product(torch.randn(32, 16).bfloat16(), None)(torch.randn(1, 3, 16).bfloat16()).shape == (1, 3, 32)


def test_sizes_that_tensor_cores_do_not_take_stay_plain() -> None:
    assert fits(torch.zeros(32, 48).bfloat16())
    assert not fits(torch.zeros(33, 48).bfloat16())
    assert not fits(torch.zeros(32, 40).bfloat16())
    assert not fits(torch.zeros(32, 48))


def test_a_cpu_refuses_them_with_the_way_out() -> None:
    with pytest.raises(UnsupportedModelError, match="8-bit floats are for NVIDIA GPUs, not for cpu") as caught:
        check(Quantization("fp8"), CPU, torch.bfloat16)
    assert caught.value.remedy == "leave it out, or use int8 on a CPU"


def test_the_self_test_passes_and_finds_a_wrong_product(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fp8_linear.self_test(CPU) is None
    honest = torch._scaled_mm
    monkeypatch.setattr(torch, "_scaled_mm", lambda *args, **kwargs: honest(*args, **kwargs) * 1.5)
    assert "is off by" in str(fp8_linear.self_test(CPU))
