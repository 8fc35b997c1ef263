"""Our own paged kernel, in Triton's interpreter, against the reference: every case of xformers, and capped scores."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from attention_cases import CAPPED_CASES, CASES, FLOAT8_CASES, MIXED, PREFILL_CASES, Case, largest_error
from greedy import SHORTFALL, generated_by, generated_by_transformers, largest_shortfall, tiny_llama
from paged_batch import metadata

from specserve.engine.attention.select import select_backend
from specserve.engine.attention.triton_backend import RESIDENT_PROGRAMS, TritonBackend

pytestmark = pytest.mark.interpreted

CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 5e-6, torch.float16: 3e-3}
"""float32: other order of summation. float16: results of size 1 to 4 are rounded to 11 bits, and so are the
weights before they multiply the values."""


@pytest.mark.parametrize("case", [*CASES, *PREFILL_CASES], ids=lambda case: case.name)
def test_agrees_with_the_reference(case: Case) -> None:
    assert largest_error(TritonBackend, case, torch.float32, CPU) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("case", CAPPED_CASES, ids=lambda case: case.name)
def test_capped_scores_agree_with_the_reference(case: Case) -> None:
    """The cap multiplies the rounding of a number near 1, by up to 50 here."""
    assert largest_error(TritonBackend, case, torch.float32, CPU) <= 2e-5


@pytest.mark.parametrize("case", [*CASES[::4], *CAPPED_CASES[::2]], ids=lambda case: case.name)
def test_agrees_with_the_reference_in_half_precision(case: Case) -> None:
    assert largest_error(TritonBackend, case, torch.float16, CPU) <= TOLERANCE[torch.float16]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("case", FLOAT8_CASES, ids=lambda case: case.name)
def test_reads_8_bit_floats_as_the_reference_does(case: Case, dtype: torch.dtype) -> None:
    """Both keep what torch's own conversion makes of the same numbers, so there is nothing else to be off by."""
    assert largest_error(TritonBackend, case, dtype, CPU) <= 2 * TOLERANCE[dtype]


def test_keeps_what_torch_makes_of_a_number() -> None:
    (spec,) = FLOAT8_CASES[3].layers(torch.float32)
    backend = TritonBackend([spec], CPU, 64)
    (cache,) = backend.allocate(2)
    rows = torch.randn(64, 2, 160, generator=torch.Generator().manual_seed(0))
    rows *= torch.logspace(-4, 3, 64)[:, None, None]
    rows[3, 1, 2] = float("nan")
    slots = torch.randperm(128, generator=torch.Generator().manual_seed(1))[:64]
    backend.plan(metadata([64], [64], torch.tensor([[0, 1]], dtype=torch.int32), slots))
    backend.write_kv(0, rows[..., :96], rows[..., 96:], cache)
    kept = torch.cat([cache.keys[slots], cache.values[slots]], -1)
    inside = rows.abs() <= 448
    assert torch.equal(kept.view(torch.uint8)[inside], rows.to(torch.float8_e4m3fn).view(torch.uint8)[inside])
    assert torch.equal(kept.float().isnan(), rows.isnan())
    assert (kept.float()[rows.abs() > 448].abs() == 448).all()


def test_8_bit_floats_go_to_the_backend_that_reads_them() -> None:
    assert select_backend("auto", FLOAT8_CASES[0].layers(torch.float16), CPU, None).name == "triton"
    bytes_of_8_bits = TritonBackend(FLOAT8_CASES[0].layers(torch.float16), CPU, 64).bytes_per_block()
    assert 2 * bytes_of_8_bits == TritonBackend(CASES[0].layers(torch.float16), CPU, 64).bytes_per_block()


def test_bytes_with_scales_are_left_to_cpus() -> None:
    layers = [replace(spec, cache_dtype=torch.int8) for spec in CASES[0].layers(torch.float16)]
    assert "not to torch.int8" in str(TritonBackend.refuses(layers, CPU, 64))


def test_greedy_tokens_are_those_of_transformers() -> None:
    model = tiny_llama(torch.float32, CPU)
    assert generated_by(TritonBackend, model) == generated_by_transformers(model)


def test_greedy_tokens_in_half_precision_are_nearly_the_best() -> None:
    model = tiny_llama(torch.float16, CPU)
    assert largest_shortfall(model, generated_by(TritonBackend, model)) < SHORTFALL[torch.float16]


def test_serves_capped_scores_where_xformers_refuses_them() -> None:
    layers = CAPPED_CASES[0].layers(torch.float16)
    assert select_backend("auto", layers, CPU, None).name == "triton"


def test_bytes_per_block_is_what_a_block_takes() -> None:
    layers = [
        *Case("", MIXED, head_size=80, value_head_size=64).layers(torch.float16),
        *Case("", MIXED).layers(torch.float32),
    ]
    backend = TritonBackend(layers, CPU, 64)

    def taken(num_blocks: int) -> int:
        return sum(cache.keys.nbytes + cache.values.nbytes for cache in backend.allocate(num_blocks))

    assert taken(11) - taken(10) == backend.bytes_per_block()


def test_a_short_context_is_not_cut_and_a_long_one_fills_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Case("", MIXED, heads=(28, 4), head_size=128).layers(torch.float16)[0]
    backend = TritonBackend([spec], CPU, 64)
    monkeypatch.setattr(backend, "_multiprocessors", 132)
    assert backend.num_splits(1, spec, 300) == 1
    assert backend.num_splits(1, spec, 1024) == 4
    for batch, wanted in ((1, 128), (8, 16), (64, 2), (128, 1), (1000, 1)):
        splits = backend.num_splits(batch, spec, 100_000)
        assert splits == wanted
        assert batch * 4 * splits <= max(132 * RESIDENT_PROGRAMS, batch * 4)
