"""The passes over logits in C++ compute what torch does, for every size, on every instruction set that is here."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specserve.engine.native.build import ISA_FLAGS
from specserve.engine.native.library import ISA_VARIABLE, KernelUnavailableError, load_library
from specserve.engine.sampling.cpu_passes import CpuPasses, passes_for
from specserve.engine.sampling.weights import group_sums

SIZES = st.tuples(st.integers(1, 5), st.integers(1, 400) | st.integers(64 * 127, 64 * 129))


@pytest.fixture(params=ISA_FLAGS)
def passes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> CpuPasses:
    monkeypatch.setenv(ISA_VARIABLE, request.param)
    try:
        return CpuPasses()
    except KernelUnavailableError as error:
        pytest.skip(str(error))


def drawn(shape: tuple[int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
    """Logits of all sizes, -inf and huge ones among them, some of their rows in any order, and more dice."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator) * 20
    logits[torch.rand(shape, generator=generator) < 0.1] = float("-inf")
    logits[:, 0] = torch.randn(shape[0], generator=generator) * 1e4
    order = torch.randperm(shape[0], generator=generator)
    return logits, order[: int(torch.randint(1, shape[0] + 1, (1,), generator=generator))], generator


@settings(max_examples=60, deadline=None)
@given(shape=SIZES, seed=st.integers(0, 10**6))
def check_weights(passes: CpuPasses, shape: tuple[int, int], seed: int) -> None:
    logits, rows, generator = drawn(shape, seed)
    largest = logits[rows].amax(-1)
    temperatures = torch.rand(len(rows), generator=generator) * 2 + 1e-5
    weights = torch.full((len(rows), shape[1]), 7.0)
    sums = passes.weigh(logits, rows, largest, temperatures, weights)
    wanted = ((logits[rows] - largest[:, None]) / temperatures[:, None]).exp()
    torch.testing.assert_close(weights, wanted, atol=1e-30, rtol=1e-5)  # an exponent of 80 is rounded by 4e-6
    torch.testing.assert_close(sums, group_sums(wanted), atol=1e-30, rtol=2e-5)


def test_weights_and_their_sums(passes: CpuPasses) -> None:
    check_weights(passes)


def test_what_is_not_finite_shows(passes: CpuPasses) -> None:
    logits = torch.zeros(1, 100)
    logits[0, 70] = float("nan")
    weights = torch.empty(1, 100)
    passes.weigh(logits, torch.tensor([0]), torch.zeros(1), torch.ones(1), weights)
    assert weights.isnan().nonzero().tolist() == [[0, 70]]


def test_logits_of_another_kind_are_left_to_torch() -> None:
    try:
        load_library()
    except KernelUnavailableError as error:
        pytest.skip(str(error))
    assert passes_for(torch.zeros(4, 64)) is not None
    assert passes_for(torch.zeros(4, 64, dtype=torch.float64)) is None
    assert passes_for(torch.zeros(64, 4).T) is None
    assert passes_for(torch.zeros(4, 64, device="meta")) is None
