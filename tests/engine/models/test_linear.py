"""Our Linear equals F.linear, packed or not, whatever the number of rows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.pytorch_utils import Conv1D

from specserve.engine.models import linear
from specserve.engine.models.linear import Linear, pack, packing_refusal, replace_linears

CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 4e-2}
"""Rounding of results of size about 3 in each type, and sums taken in another order."""


def nothing(done: float) -> None:
    pass


def packable(dtype: torch.dtype) -> bool:
    return packing_refusal(dtype, CPU) is None


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 33, 256])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_packed_linear_equals_f_linear(dtype: torch.dtype, bias: bool, rows: int) -> None:
    if not packable(dtype):
        pytest.skip(f"this CPU packs no {dtype}")
    torch.manual_seed(0)
    plain = nn.Linear(72, 130, bias=bias).to(dtype)
    plain.weight.copy_(torch.randn(130, 72) / 72**0.5)
    ours = Linear(plain.weight, plain.bias, pack(plain.weight))
    x = torch.randn(1, rows, 72).to(dtype)
    got, want = ours(x), F.linear(x.float(), plain.weight.float(), None if not bias else plain.bias.float())
    assert got.shape == (1, rows, 130)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), want, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


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
    monkeypatch.setattr(linear, "packed_linear", lambda x, packed, bias: F.linear(x, packed, bias) + 1)
    monkeypatch.setattr(linear, "pack", lambda weight: weight)
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

    monkeypatch.setattr(linear, "pack", absent)
    model = nn.Sequential(nn.Linear(8, 8))
    reason = replace_linears(model, nothing)
    assert reason is not None
    assert "_reorder_linear_weight" in reason


def test_progress_ends_at_one() -> None:
    seen: list[float] = []
    replace_linears(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 8)), seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
