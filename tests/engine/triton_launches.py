"""Launches of Triton kernels, recorded and compiled for a GPU that is not there.

Finds what the interpreter cannot: types, bfloat16, shared memory, and a Triton that has lost what a kernel is written
with. The launch is recorded from our own call, so its constants are the served ones.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel
from triton.runtime.jit import JITFunction

H100 = GPUTarget("cuda", 90, 32)
A100 = GPUTarget("cuda", 80, 32)
SMALLEST_SHARED_MEMORY = 99 * 1024
"""What compute capability 8.6 and 8.9 give one program; 8.0 has 163 KiB and 9.0 has 227. Source: CUDA C++
Programming Guide, table of technical specifications per compute capability."""
H100_SHARED_MEMORY, H100_REGISTERS, H100_WARPS = 227 * 1024, 64 * 1024, 64
"""Of a multiprocessor, what programs can have of it. Each program's shared memory takes a KiB more. Same source."""
OPTIONS = ("num_warps", "num_stages")
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
POINTERS = {
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.float8_e4m3fn: "*fp8e4nv",
    torch.int32: "*i32",
    torch.int64: "*i64",
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


class Resources(NamedTuple):
    """What a compiled kernel takes: `spilled` bytes are registers that had to be kept in memory."""

    registers: int
    spilled: int
    shared: int
    warps: int

    @property
    def resident(self) -> int:
        """Programs that a multiprocessor of an H100 holds at once."""
        registers_of_a_warp = -(-self.registers * 32 // 256) * 256
        return min(
            H100_SHARED_MEMORY // (self.shared + 1024),
            H100_REGISTERS // (registers_of_a_warp * self.warps),
            H100_WARPS // self.warps,
        )


def resources(kernel: CompiledKernel) -> Resources:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        told = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", told)
    assert found is not None, told
    registers, stack, local = map(int, found.groups())
    return Resources(registers, stack + local, kernel.metadata.shared, kernel.metadata.num_warps)
