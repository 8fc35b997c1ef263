"""Our Linear equals F.linear, packed or not, whatever the number of rows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.pytorch_utils import Conv1D

from specserve.engine.models import onednn_linear
from specserve.engine.models.cpu_linear import CpuProduct
from specserve.engine.models.linear import Linear, Packing, replace_linears
from specserve.engine.models.onednn_linear import OneDnnProduct

CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 4e-2}
"""Rounding of results of size about 3 in each type, and sums taken in another order."""


def nothing(done: float) -> None:
    pass


def packable(dtype: torch.dtype) -> bool:
    return Packing(dtype, CPU).refusal is None


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 33, 256])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("form", "dtype"),
    [(OneDnnProduct, torch.float32), (OneDnnProduct, torch.bfloat16), (CpuProduct, torch.bfloat16)],
)
@torch.inference_mode()
def test_packed_linear_equals_f_linear(
    form: type[OneDnnProduct | CpuProduct], dtype: torch.dtype, bias: bool, rows: int
) -> None:
    wanted = Packing(dtype, CPU).product(torch.zeros(2, 2, dtype=dtype), None)
    if wanted is None or (form is CpuProduct and not isinstance(wanted, CpuProduct)):
        pytest.skip(f"this CPU does not pack {dtype} so")
    torch.manual_seed(0)
    plain = nn.Linear(72, 130, bias=bias).to(dtype)
    plain.weight.copy_(torch.randn(130, 72) / 72**0.5)
    ours = Linear(plain.weight, plain.bias, form(plain.weight, plain.bias))
    x = torch.randn(1, rows, 72).to(dtype)
    got, want = ours(x), F.linear(x.float(), plain.weight.float(), None if not bias else plain.bias.float())
    assert got.shape == (1, rows, 130)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), want, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@torch.inference_mode()
def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    weight = torch.randn(130, 72).bfloat16()
    product = Packing(torch.bfloat16, CPU).product(weight, None)
    if not isinstance(product, CpuProduct):
        pytest.skip("this CPU has no kernel for bfloat16")
    x = torch.randn(200, 72).bfloat16()
    whole = product(x)
    for count in (1, 2, 11, 12, 13, 63, 64, 150):
        assert torch.equal(product(x[:count]), whole[:count])
    assert torch.equal(product(x[:, None].expand(-1, 3, -1)[5:9])[:, 1], whole[5:9])


@torch.inference_mode()
def test_every_linear_and_conv1d_is_replaced_in_place() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Sequential(Conv1D(6, 12)))
    nn.init.normal_(model[2][0].bias)
    x = torch.randn(3, 8)
    before = model(x)
    replace_linears(model, nothing)
    assert type(model[0]) is Linear
    assert type(model[2][0]) is Linear
    torch.testing.assert_close(model(x), before, atol=1e-5, rtol=1e-5)


def test_subclasses_of_linear_are_left_alone() -> None:
    class Special(nn.Linear):
        pass

    model = nn.Sequential(Special(4, 4))
    replace_linears(model, nothing)
    assert type(model[0]) is Special


def test_a_module_that_hangs_in_two_places_stays_one_module() -> None:
    shared = nn.Linear(4, 4)
    model = nn.ModuleList([nn.Sequential(shared), nn.Sequential(shared)])
    replace_linears(model, nothing)
    assert model[0][0] is model[1][0]


def test_packing_frees_the_plain_weight_but_not_a_tied_embedding() -> None:
    embedding, head = nn.Embedding(50, 16), nn.Linear(16, 50, bias=False)
    head.weight = embedding.weight
    model = nn.Sequential(embedding, head)
    replace_linears(model, nothing)
    assert embedding.weight.device.type == "cpu"
    if packable(torch.float32):
        assert model[1].weight.device.type == "meta"
        assert model[1].weight.shape == (50, 16)


def test_a_failing_self_test_leaves_plain_weights_and_gives_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onednn_linear, "packed_linear", lambda x, packed, bias: F.linear(x, packed, bias) + 1)
    monkeypatch.setattr(onednn_linear, "pack", lambda weight: weight)
    model = nn.Sequential(nn.Linear(8, 8))
    x = torch.randn(2, 8)
    before = model(x)
    reason = replace_linears(model, nothing)
    assert reason is not None
    assert "self-test" in reason
    assert torch.equal(model(x), before)


def test_a_missing_operator_leaves_plain_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(weight: torch.Tensor) -> torch.Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")

    monkeypatch.setattr(onednn_linear, "pack", absent)
    model = nn.Sequential(nn.Linear(8, 8))
    reason = replace_linears(model, nothing)
    assert reason is not None
    assert "_reorder_linear_weight" in reason


def test_progress_ends_at_one() -> None:
    seen: list[float] = []
    replace_linears(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 8)), seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
