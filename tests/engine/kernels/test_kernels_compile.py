"""Our kernels compile for an H100 and an A100 on a machine without a GPU, in bfloat16, launched as the engine does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from triton.backends.compiler import GPUTarget
from triton_launches import A100, H100, SMALLEST_SHARED_MEMORY, Recorder, compile_recorded, resources

from specserve.engine.attention import triton_backend
from specserve.engine.kernels import fp8_rows, paged_attention, rms_norm, rotary_write, silu_mul, vector_product

TARGETS = [H100, A100]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Puts recorders in the place of kernels, with a compiler cache that is empty."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))

    def record(module: Any, name: str) -> Recorder:
        recorder = Recorder(getattr(module, name))
        monkeypatch.setattr(module, name, recorder)
        return recorder

    return record


def zeros(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.zeros(*shape, dtype=dtype)


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("adds", [False, True])
def test_rms_norm(recorded: Any, adds: bool, target: GPUTarget) -> None:
    recorder = recorded(rms_norm, "_rms_norm")
    x, weight = zeros(8, 3584), zeros(3584)
    if adds:
        rms_norm.add_rms_norm(x, zeros(8, 3584), weight, 1e-6)
    else:
        rms_norm.rms_norm(x, weight, 1e-6)
    assert resources(compile_recorded(recorder, target)).spilled == 0


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_silu_mul(recorded: Any, target: GPUTarget) -> None:
    recorder = recorded(silu_mul, "_silu_mul")
    silu_mul.silu_mul(zeros(8, 2 * 18944))
    assert resources(compile_recorded(recorder, target)).spilled == 0


def test_fp8_rows(recorded: Any) -> None:
    """For GPUs that multiply 8-bit floats; an A100 does not."""
    recorder = recorded(fp8_rows, "_fp8_rows")
    fp8_rows.fp8_rows(zeros(8, 3584))
    assert resources(compile_recorded(recorder, H100)).spilled == 0


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("tile", vector_product.TILES, ids=str)
@pytest.mark.parametrize("num_columns", [3584, 4096], ids=["cut columns", "whole columns"])
def test_vector_product_has_many_copies_on_their_way(
    recorded: Any, num_columns: int, tile: vector_product.Tile, target: GPUTarget
) -> None:
    recorder = recorded(vector_product, "_vector_product")
    vector_product.vector_product(zeros(1, num_columns), zeros(64, num_columns), zeros(64), tile)
    compiled = compile_recorded(recorder, target)
    assert compiled.asm["ptx"].count("cp.async.c") >= tile.stages
    assert compiled.metadata.shared >= (tile.stages - 1) * tile.rows * tile.columns * 2
    assert compiled.metadata.shared <= SMALLEST_SHARED_MEMORY // 3
    assert resources(compiled).spilled == 0


@pytest.mark.parametrize("tile", vector_product.TILES, ids=str)
def test_vector_product_of_8_bit_floats(recorded: Any, tile: vector_product.Tile) -> None:
    recorder = recorded(vector_product, "_vector_product")
    weight = zeros(64, 3584).to(torch.float8_e4m3fn)
    vector_product.vector_product(zeros(1, 3584), weight, None, tile, torch.zeros(64))
    compiled = compile_recorded(recorder, H100)
    assert "e4m3x2" in compiled.asm["ptx"]
    assert compiled.asm["ptx"].count("cp.async.c") >= tile.stages
    assert resources(compiled).spilled == 0


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("head_size", [64, 80, 128])
@pytest.mark.parametrize("norms", [False, True])
def test_rotary_write(recorded: Any, norms: bool, head_size: int, target: GPUTarget) -> None:
    recorder = recorded(rotary_write, "_rotary_write")
    cache = zeros(128, 4, head_size)
    weights = (zeros(head_size), zeros(head_size)) if norms else (None, None)
    rotary_write.rotary_write(
        zeros(8, (28 + 2 * 4) * head_size),
        zeros(8, head_size),
        zeros(8, head_size),
        torch.zeros(8, dtype=torch.int64),
        cache,
        cache.clone(),
        *weights,
        1e-6,
    )
    assert resources(compile_recorded(recorder, target)).spilled == 0


def test_rotary_write_rounds_to_8_bit_floats(recorded: Any) -> None:
    recorder = recorded(rotary_write, "_rotary_write")
    cache = zeros(128, 4, 128, dtype=torch.float8_e4m3fn)
    turns = (zeros(8, 128), zeros(8, 128), torch.zeros(8, dtype=torch.int64))
    rotary_write.rotary_write(zeros(8, (28 + 2 * 4) * 128), *turns, cache, cache.clone())
    compiled = compile_recorded(recorder, H100)
    assert "cvt.rn.satfinite.e4m3x2" in compiled.asm["ptx"]


def attend(
    heads: tuple[int, int],
    head_size: int,
    dtype: torch.dtype = torch.bfloat16,
    *,
    decodes: bool = True,
    page: int = 64,
    cache_dtype: torch.dtype | None = None,
    **options: Any,
) -> None:
    """Eight sequences of one block, each with one query token."""
    integers = torch.zeros(9, dtype=torch.int32)
    cache = zeros(8 * page, heads[1], head_size, dtype=cache_dtype or dtype)
    paged_attention.paged_attention(
        zeros(8, heads[0], head_size, dtype=dtype),
        cache,
        cache,
        integers[:8],
        integers[:8],
        integers,
        integers[:8],
        zeros(8, 32, dtype=torch.int32),
        page=page,
        rows=paged_attention.rows_of_tile(heads[0] // heads[1], head_size, dtype.itemsize, decodes=decodes),
        scale=0.1,
        **options,
    )


SHAPES = [((28, 4), 128), ((14, 2), 64), ((32, 32), 80), ((64, 1), 128), ((16, 8), 256), ((32, 1), 256), ((4, 2), 512)]


@pytest.mark.parametrize("decodes", [True, False], ids=["decodes", "prefill"])
@pytest.mark.parametrize(("heads", "head_size"), SHAPES, ids=str)
def test_attention_fits_the_shared_memory_of_small_gpus(
    recorded: Any, heads: tuple[int, int], head_size: int, decodes: bool
) -> None:
    recorder = recorded(paged_attention, "_attend")
    for dtype in (torch.bfloat16, torch.float32):
        attend(heads, head_size, dtype, decodes=decodes)
        taken = resources(compile_recorded(recorder))
        assert taken.shared <= SMALLEST_SHARED_MEMORY
        assert dtype == torch.float32 or taken.spilled == 0


def test_the_programs_of_a_decode_that_are_launched_together_run_together(recorded: Any) -> None:
    recorder, _ = recorded(paged_attention, "_attend"), recorded(paged_attention, "_merge")
    attend((28, 4), 128, splits=8)
    assert resources(compile_recorded(recorder)).resident >= triton_backend.RESIDENT_PROGRAMS


@pytest.mark.parametrize("splits", [2, 16, 64, 256])
def test_merging_holds_its_parts_in_registers(recorded: Any, splits: int) -> None:
    _, merge = recorded(paged_attention, "_attend"), recorded(paged_attention, "_merge")
    attend((28, 4), 128, splits=splits)
    assert resources(compile_recorded(merge)).spilled == 0


@pytest.mark.parametrize("decodes", [True, False], ids=["decodes", "prefill"])
def test_attention_copies_asynchronously_and_multiplies_on_tensor_cores(recorded: Any, decodes: bool) -> None:
    recorder = recorded(paged_attention, "_attend")
    attend((28, 4), 128, decodes=decodes)
    assembly = compile_recorded(recorder).asm["ptx"]
    assert assembly.count("cp.async.c") > 0
    assert assembly.count("mma") > 0


@pytest.mark.parametrize("decodes", [True, False], ids=["decodes", "prefill"])
@pytest.mark.parametrize(("heads", "head_size"), SHAPES, ids=str)
def test_attention_reads_8_bit_floats(recorded: Any, heads: tuple[int, int], head_size: int, decodes: bool) -> None:
    recorder = recorded(paged_attention, "_attend")
    attend(heads, head_size, decodes=decodes, cache_dtype=torch.float8_e4m3fn)
    compiled = compile_recorded(recorder, H100)
    assert "e4m3x2" in compiled.asm["ptx"]
    assert "mma" in compiled.asm["ptx"]
    assert compiled.metadata.shared <= SMALLEST_SHARED_MEMORY


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"splits": 8},
        {"window": 4096},
        {"softcap": 50.0},
        {"sinks": torch.zeros(28, dtype=torch.bfloat16)},
        {"splits": 4, "window": 100, "softcap": 30.0, "sinks": torch.zeros(28, dtype=torch.bfloat16)},
        {"page": 16},
    ],
    ids=lambda options: "+".join(options),
)
def test_every_form_of_attention_compiles(recorded: Any, options: dict[str, Any], target: GPUTarget) -> None:
    recorder, merge = recorded(paged_attention, "_attend"), recorded(paged_attention, "_merge")
    attend((28, 4), 128, **options)
    assert resources(compile_recorded(recorder, target)).spilled == 0
    if options.get("splits", 1) > 1:
        assert resources(compile_recorded(merge, target)).spilled == 0
    else:
        assert not merge.launches


def test_more_heads_than_a_program_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="64 heads of 256 to one key-value head are more than a program holds, 32"):
        paged_attention.rows_of_tile(64, 256, 4, decodes=True)


def test_what_changes_from_step_to_step_is_no_constant_of_the_kernel(recorded: Any) -> None:
    recorder = recorded(paged_attention, "_attend")
    attend((28, 4), 128)
    changing = {"num_tokens", "table_stride", "seq_lens", "block_tables", "query_start", "tile_sequence", "tile_first"}
    assert changing < set(recorder.function().arg_names)
    assert not changing & {parameter.name for parameter in recorder.function().params if parameter.is_constexpr}
