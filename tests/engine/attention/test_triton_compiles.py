"""The paged decode kernel of xformers compiles for an H100 on a machine without a GPU, launched as our backend does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from attention_cases import MIXED, Case
from triton_launches import A100, SMALLEST_SHARED_MEMORY, Recorder, compile_recorded, resources
from xformers.ops.fmha import triton_splitk
from xformers.ops.fmha._triton import splitk_kernels

from specserve.engine.attention import xformers_backend
from specserve.engine.attention.xformers import PagedDecode, XFormersOperators
from specserve.engine.attention.xformers_plan import DecodeBatch


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Recorder, Recorder]:
    """The decode kernel and the one that merges splits, with a compiler cache that is empty."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    decode = Recorder(triton_splitk.FwOp.get_kernel())
    merge = Recorder(splitk_kernels._splitK_reduce)
    monkeypatch.setattr(PagedDecode, "get_kernel", classmethod(lambda _: decode))
    monkeypatch.setattr(splitk_kernels, "_splitK_reduce", merge)
    return decode, merge


def launch(case: Case, dtype: torch.dtype, num_splits: int, window: int | None = None, with_lse: bool = False) -> None:
    """One decode of 8 sequences with tables of 32 blocks, as `XFormersBackend` calls it."""
    operators, spec, device = XFormersOperators(), case.layers(dtype)[0], torch.device("cpu")
    batch = DecodeBatch(operators, 8, 32, window, case.block_size, device)
    query = torch.zeros(8, spec.num_heads, spec.head_size, dtype=dtype)
    cache = torch.zeros(2 * case.block_size, spec.num_kv_heads, spec.head_size, dtype=dtype)
    operators.paged_decode(query, cache, cache, batch.bias, spec.scale, num_splits, with_lse)


@pytest.mark.parametrize(
    ("head_size", "window", "dtype"),
    [
        (64, None, torch.bfloat16),
        (128, None, torch.bfloat16),
        (128, 300, torch.bfloat16),
        (128, None, torch.float16),
    ],
    ids=str,
)
def test_the_decode_kernel_compiles_and_copies_asynchronously(
    recorders: tuple[Recorder, Recorder], head_size: int, window: int | None, dtype: torch.dtype
) -> None:
    launch(Case("", MIXED, heads=(28, 4), head_size=head_size), dtype, 4, window)
    kernel = compile_recorded(recorders[0])
    assert resources(kernel).spilled == 0
    assert kernel.asm["ptx"].count("cp.async.c") > 0
    assert kernel.asm["ptx"].count("mma.sync") > 0


def test_the_launch_of_xformers_own_choice_would_not_copy_asynchronously(
    recorders: tuple[Recorder, Recorder],
) -> None:
    """The reason for our own number of warps and stages; if this fails, look at it again."""
    launch(Case("", MIXED, heads=(28, 4), head_size=128), torch.bfloat16, 4)
    plain = compile_recorded(
        recorders[0], num_warps=triton_splitk.FwOp.NUM_WARPS, num_stages=triton_splitk.FwOp.NUM_STAGES
    )
    assert plain.asm["ptx"].count("cp.async.c") == 0


@pytest.mark.parametrize(
    ("heads", "head_size", "dtype"),
    [
        ((64, 1), 128, torch.bfloat16),
        ((8, 8), 256, torch.bfloat16),
        ((64, 1), 256, torch.bfloat16),
        ((4, 2), 512, torch.bfloat16),
        ((32, 1), 64, torch.float32),
        ((32, 1), 128, torch.float32),
        ((4, 2), 512, torch.float32),
    ],
    ids=str,
)
def test_every_tile_fits_the_shared_memory_of_small_gpus(
    recorders: tuple[Recorder, Recorder], heads: tuple[int, int], head_size: int, dtype: torch.dtype
) -> None:
    launch(Case("", MIXED, heads=heads, head_size=head_size), dtype, 4)
    assert compile_recorded(recorders[0]).metadata.shared <= SMALLEST_SHARED_MEMORY


def test_the_programs_that_are_launched_together_run_together(recorders: tuple[Recorder, Recorder]) -> None:
    launch(Case("", MIXED, heads=(28, 4), head_size=128), torch.bfloat16, 8)
    assert resources(compile_recorded(recorders[0])).resident >= xformers_backend.RESIDENT_PROGRAMS


def test_as_many_splits_as_are_ever_made_are_merged_in_registers(recorders: tuple[Recorder, Recorder]) -> None:
    launch(Case("", MIXED, heads=(28, 4), head_size=128), torch.bfloat16, xformers_backend.MAX_SPLITS)
    assert resources(compile_recorded(recorders[1])).spilled == 0


@pytest.mark.parametrize("block_size", [16, 32, 128])
def test_other_block_sizes_compile(recorders: tuple[Recorder, Recorder], block_size: int) -> None:
    launch(Case("", MIXED, heads=(8, 2), block_size=block_size), torch.bfloat16, 4)
    assert resources(compile_recorded(recorders[0])).spilled == 0


@pytest.mark.parametrize("with_lse", [False, True])
def test_the_kernel_that_merges_splits_compiles(recorders: tuple[Recorder, Recorder], with_lse: bool) -> None:
    launch(Case("", MIXED, heads=(28, 4), head_size=128), torch.bfloat16, 5, with_lse=with_lse)
    assert resources(compile_recorded(recorders[1])).spilled == 0


def test_a_single_split_needs_no_merge(recorders: tuple[Recorder, Recorder]) -> None:
    launch(Case("", MIXED, heads=(28, 4)), torch.bfloat16, 1)
    decode, merge = recorders
    assert not merge.launches
    assert resources(compile_recorded(decode)).spilled == 0


def test_compiles_for_an_a100(recorders: tuple[Recorder, Recorder]) -> None:
    launch(Case("", MIXED, heads=(28, 4), head_size=128), torch.bfloat16, 4)
    assert resources(compile_recorded(recorders[0], A100)).spilled == 0
