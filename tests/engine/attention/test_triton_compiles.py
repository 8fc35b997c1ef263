"""The paged decode kernel compiles for an H100 on a machine without a GPU, launched as our backend does.

Finds what the interpreter cannot: types, bfloat16, shared memory, and a Triton that has lost what the kernel
is written with. The launch is recorded from our own call, so its constants are the served ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from attention_cases import MIXED, Case
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel
from triton.runtime.jit import JITFunction
from xformers.ops.fmha import triton_splitk
from xformers.ops.fmha._triton import splitk_kernels

from specserve.engine.attention.xformers import PagedDecode, XFormersOperators
from specserve.engine.attention.xformers_plan import DecodeBatch

H100 = GPUTarget("cuda", 90, 32)
SMALLEST_SHARED_MEMORY = 99 * 1024
"""What compute capability 8.6 and 8.9 give one program; 8.0 has 163 KiB and 9.0 has 227. Source: CUDA C++
Programming Guide, table of technical specifications per compute capability."""
OPTIONS = ("num_warps", "num_stages")
POINTERS = {
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int32: "*i32",
}


class Recorder:
    """Stands for a kernel: remembers the arguments of its launch and computes nothing."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.launches: list[dict[str, Any]] = []

    def __getitem__(self, grid: Any) -> Any:
        def launch(*args: Any, **kwargs: Any) -> None:
            self.launches.append({**dict(zip(self.function().arg_names, args, strict=False)), **kwargs})

        return launch

    def function(self) -> JITFunction[Any]:
        function = getattr(self.kernel, "fn", self.kernel)
        return function if isinstance(function, JITFunction) else self.kernel


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


def compile_recorded(recorder: Recorder, target: GPUTarget = H100, **options: int) -> CompiledKernel:
    """What Triton's launcher would do with the recorded arguments, for a GPU that is not there."""
    arguments = recorder.launches[-1]
    function = recorder.function()
    given = {name: arguments[name] for name in function.arg_names if name in arguments}
    for name, heuristic in getattr(recorder.kernel, "values", {}).items():
        given[name] = heuristic({**arguments, **given})
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(function.params):
        value = given[parameter.name]
        aligned = True
        if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1):
            signature[parameter.name], constants[parameter.name] = "constexpr", value
            continue
        if isinstance(value, torch.Tensor):
            signature[parameter.name] = POINTERS[value.dtype]
        elif isinstance(value, float):
            signature[parameter.name], aligned = "fp32", False
        else:
            signature[parameter.name], aligned = "i32", value % 16 == 0
        if aligned:
            attributes[index,] = [["tt.divisibility", 16]]
    source = ASTSource(fn=function, signature=signature, constexprs=constants, attrs=attributes)
    launched = {name: arguments[name] for name in OPTIONS if name in arguments}
    return triton.compile(source, target=target, options={**launched, **options})


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
    assert kernel.asm["cubin"]
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


@pytest.mark.parametrize("block_size", [16, 32, 128])
def test_other_block_sizes_compile(recorders: tuple[Recorder, Recorder], block_size: int) -> None:
    launch(Case("", MIXED, heads=(8, 2), block_size=block_size), torch.bfloat16, 4)
    assert compile_recorded(recorders[0]).asm["cubin"]


@pytest.mark.parametrize("with_lse", [False, True])
def test_the_kernel_that_merges_splits_compiles(recorders: tuple[Recorder, Recorder], with_lse: bool) -> None:
    launch(Case("", MIXED, heads=(28, 4), head_size=128), torch.bfloat16, 5, with_lse=with_lse)
    assert compile_recorded(recorders[1]).asm["cubin"]


def test_a_single_split_needs_no_merge(recorders: tuple[Recorder, Recorder]) -> None:
    launch(Case("", MIXED, heads=(28, 4)), torch.bfloat16, 1)
    decode, merge = recorders
    assert not merge.launches
    assert compile_recorded(decode).asm["cubin"]


def test_compiles_for_an_a100(recorders: tuple[Recorder, Recorder]) -> None:
    launch(Case("", MIXED, heads=(28, 4), head_size=128), torch.bfloat16, 4)
    assert compile_recorded(recorders[0], GPUTarget("cuda", 80, 32)).asm["cubin"]
