"""The screened head finds the same highest logits as the whole product, bit for bit, and says no more of the others."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_checkpoints import generate, load_runner, write_checkpoint
from torch import Tensor

from specserve.engine.models import screened_head
from specserve.engine.models.cpu_linear import FLOAT32, ISA, LinearArgs, PackedWeight, scratch_width
from specserve.engine.models.screened_head import REST, ScreenedHead, fits
from specserve.engine.native.library import load_library
from specserve.engine.params import SamplingParams

pytestmark = pytest.mark.usefixtures("bfloat16_kernel")


@dataclass
class Head:
    weight: Tensor

    def __post_init__(self) -> None:
        self.packed = PackedWeight(self.weight)
        self.screened = ScreenedHead(self.packed.struct)

    def exact(self, x: Tensor) -> Tensor:
        y = torch.full((x.shape[0], self.weight.shape[0]), torch.nan)
        scratch = torch.empty(x.shape[0], scratch_width(x.shape[1]), dtype=torch.bfloat16)
        args = LinearArgs(
            weight=self.packed.struct,
            x=x.data_ptr(),
            scratch=scratch.data_ptr(),
            y=y.data_ptr(),
            x_stride=x.stride(0),
            y_stride=y.stride(0),
            m=x.shape[0],
            result=FLOAT32,
            num_threads=torch.get_num_threads(),
        )
        load_library().function(f"specserve_linear_{ISA}")(ctypes.byref(args))
        return y

    def screen(self, x: Tensor) -> Tensor:
        y = torch.full((x.shape[0], self.weight.shape[0]), torch.nan)
        scratch = torch.empty(x.shape[0], scratch_width(x.shape[1]), dtype=torch.bfloat16)
        address = self.screened.begin(x.shape[0])
        assert address
        args = self.screened.args
        args.head, args.x, args.scratch, args.y = self.packed.struct, x.data_ptr(), scratch.data_ptr(), y.data_ptr()
        args.m, args.num_threads = x.shape[0], torch.get_num_threads()
        assert load_library().function(f"specserve_screen_{ISA}")(address) == 0
        self.screened.end()
        return y


def drawn(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).bfloat16()


def assert_highest_is_exact(got: Tensor, exact: Tensor) -> None:
    highest = exact.amax(1, keepdim=True)
    assert torch.equal(got.argmax(1), exact.argmax(1))
    assert torch.equal(got == highest, exact == highest)
    assert bool((got <= highest).all())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    num_rows=st.integers(1, 30),
    num_out=st.integers(1, 900),
    num_in=st.integers(1, 130).map(lambda half: 2 * half),
    scale=st.sampled_from([1e-12, 1e-3, 1.0, 40.0]),
    outlier=st.sampled_from([0.0, 30.0, 3000.0]),
)
def test_the_highest_logits_are_exact(
    seed: int, num_rows: int, num_out: int, num_in: int, scale: float, outlier: float
) -> None:
    head = Head(drawn(seed, num_out, num_in))
    x = drawn(seed + 1, num_rows, num_in, scale=scale)
    x[:, seed % num_in] += outlier * scale
    assert_highest_is_exact(head.screen(x), head.exact(x))


def test_few_blocks_are_computed_again_where_one_logit_stands_out() -> None:
    weight = drawn(0, 20_000, 256)
    head, x = Head(weight), 2 * weight[[7, 19_999, 4_000]]
    got = head.screen(x)
    assert_highest_is_exact(got, head.exact(x))
    assert head.screened.args.num_exact == len(x)


def test_equal_logits_stay_equal() -> None:
    weight = drawn(3, 5_000, 96)
    weight[4_321] = weight[123]
    head, x = Head(weight), weight[[123, 5]]
    got = head.screen(x)
    assert got[0, 123] == got[0, 4_321] == head.exact(x)[0, 123]
    assert got[0].argmax() == 123


def test_where_all_logits_are_close_all_are_computed_and_screening_rests() -> None:
    weight = drawn(4, 1, 128).repeat(6_000, 1)
    weight[4_000, 5] *= 1.01
    head, x = Head(weight), drawn(5, 3, 128)
    assert torch.equal(head.screen(x), head.exact(x))
    assert [bool(head.screened.begin(3)) for _ in range(REST + 1)] == [False] * REST + [True]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_row_that_is_not_finite_stays_so(value: float) -> None:
    head, x = Head(drawn(6, 4_100, 64)), drawn(7, 2, 64)
    x[1, 9] = value
    got, exact = head.screen(x), head.exact(x)
    assert torch.equal(got.isfinite(), exact.isfinite())
    assert torch.equal(got[0], exact[0])


def test_a_head_that_is_not_finite_is_never_screened() -> None:
    weight = drawn(8, 4_100, 64)
    weight[77, 3] = torch.nan
    screened = ScreenedHead(PackedWeight(weight).struct)
    assert not any(screened.begin(1) for _ in range(2 * REST))


def test_a_head_with_a_bias_or_of_few_features_does_not_fit() -> None:
    large = drawn(9, screened_head.LEAST_FEATURES, 32)
    assert fits(PackedWeight(large).struct)
    assert not fits(PackedWeight(large, torch.zeros(len(large))).struct)
    assert not fits(PackedWeight(large[:-1]).struct)


@pytest.mark.parametrize(
    ("options", "is_screened"),
    [
        ({}, True),
        ({"logprobs": 1}, False),
        ({"temperature": 0.7, "seed": 3}, False),
        ({"repetition_penalty": 1.2}, False),
        ({"logit_bias": {5: 2.0}}, False),
    ],
)
def test_answers_are_the_same_with_and_without(
    options: dict[str, Any], is_screened: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint("qwen2", tmp_path, torch.bfloat16)
    params = SamplingParams(**({"max_tokens": 24, "temperature": 0.0} | options))
    prompts = [[5, 9, 60], [7] * 21]
    without = generate(load_runner(folder, "cpu"), prompts, [params] * 2)
    monkeypatch.setattr(screened_head, "LEAST_FEATURES", 1)
    steps: list[int] = []
    end = ScreenedHead.end
    monkeypatch.setattr(ScreenedHead, "end", lambda self: (steps.append(self.args.num_exact), end(self))[1])
    assert generate(load_runner(folder, "cpu"), prompts, [params] * 2) == without
    assert bool(steps) is is_screened
