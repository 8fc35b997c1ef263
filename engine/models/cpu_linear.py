"""Weights in the packed form of native/linear.cpp, and the call of it."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from specserve.engine.native.library import KernelUnavailableError, load_library, usable_isas

ISA = "avx512_bf16"
FEATURES = 32
"""Output features that are packed side by side."""
TURN = 16
"""Features of the gate and of the other factor take turns in runs of this length."""
MANY_ROWS = 64
"""From so many rows on they are rearranged first."""
BFLOAT16, FLOAT32, ADD_TO, SILU_MUL = range(4)
"""What becomes of the sums: LinearResult in native/linear.h."""
SELF_TEST_TOLERANCE = 3e-2
"""Largest difference to float32 over outputs of size about 1: bfloat16 rounds by 4e-3."""


class LinearWeight(ctypes.Structure):
    """Mirrors the struct of the same name in native/linear.h."""

    _fields_ = (
        ("packed", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("n", ctypes.c_int32),
        ("k", ctypes.c_int32),
    )


class LinearArgs(ctypes.Structure):
    """Mirrors the struct of the same name in native/linear.h."""

    _fields_ = (
        ("weight", LinearWeight),
        ("x", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("x_stride", ctypes.c_int64),
        ("y_stride", ctypes.c_int64),
        ("m", ctypes.c_int32),
        ("result", ctypes.c_int32),
        ("num_threads", ctypes.c_int32),
    )


class PackedWeight:
    """A weight [N, K] in bfloat16, K even, with an optional bias [N]; `struct` is what C++ reads of it."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        num_out, num_in = weight.shape
        padded = F.pad(weight, (0, 0, 0, -num_out % FEATURES))
        pairs = padded.contiguous().view(torch.int32).view(-1, FEATURES, num_in // 2)
        self._packed = pairs.transpose(1, 2).contiguous()
        self._bias = None if bias is None else bias.float().contiguous()
        self.struct = LinearWeight(
            packed=self._packed.data_ptr(),
            bias=None if self._bias is None else self._bias.data_ptr(),
            n=num_out,
            k=num_in,
        )


class CpuProduct:
    """x [..., K] → x Wᵀ + b [..., N] in bfloat16."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = PackedWeight(weight, bias)
        self._run = load_library().function(f"specserve_linear_{ISA}")

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        rows = rows if rows.stride(1) == 1 else rows.contiguous()
        struct = self._weight.struct
        y = x.new_empty(rows.shape[0], struct.n)
        scratch = torch.empty_like(rows, memory_format=torch.contiguous_format) if len(rows) >= MANY_ROWS else None
        args = LinearArgs(
            weight=struct,
            x=rows.data_ptr(),
            scratch=None if scratch is None else scratch.data_ptr(),
            y=y.data_ptr(),
            x_stride=rows.stride(0),
            y_stride=struct.n,
            m=rows.shape[0],
            result=BFLOAT16,
            num_threads=torch.get_num_threads(),
        )
        self._run(ctypes.byref(args))
        return y.view(*x.shape[:-1], struct.n)


def in_turns(gate: Tensor, other: Tensor) -> Tensor:
    """[I, …] twice → [2 I, …]: TURN of the gate, TURN of the other, and so on. I is a multiple of TURN."""
    shape = (-1, TURN, *gate.shape[1:])
    return torch.stack([gate.reshape(shape), other.reshape(shape)], dim=1).reshape(-1, *gate.shape[1:])


def self_test() -> None:
    """Compare small products of every kind with float32. Raises KernelUnavailableError.

    Processors with AMX are left to oneDNN, which computes many rows several times faster with it.
    """
    library = load_library()
    if ISA not in usable_isas(library):
        raise KernelUnavailableError(f"{ISA} is not there, or another instruction set was asked for")
    if torch.cpu._is_amx_tile_supported():
        raise KernelUnavailableError("oneDNN uses AMX here")
    linear = library.function(f"specserve_linear_{ISA}")
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).bfloat16()

    for rows, num_out, num_in in ((1, 64, 34), (31, 160, 66), (70, 96, 80)):
        x, weight, bias = draw(rows, num_in), draw(num_out, num_in) / num_in**0.5, draw(num_out)
        packed = PackedWeight(weight.bfloat16(), bias)
        truth = F.linear(x.float(), weight.bfloat16().float(), bias.float())
        turns = truth.view(rows, -1, 2, TURN)
        for result, dtype, wanted in (
            (BFLOAT16, torch.bfloat16, truth),
            (FLOAT32, torch.float32, truth),
            (ADD_TO, torch.float32, truth + 1),
            (SILU_MUL, torch.bfloat16, (F.silu(turns[:, :, 0]) * turns[:, :, 1]).flatten(1)),
        ):
            y, scratch = torch.ones(wanted.shape, dtype=dtype), torch.empty_like(x)
            args = LinearArgs(
                weight=packed.struct,
                x=x.data_ptr(),
                scratch=scratch.data_ptr(),
                y=y.data_ptr(),
                x_stride=num_in,
                y_stride=y.shape[1],
                m=rows,
                result=result,
                num_threads=torch.get_num_threads(),
            )
            linear(ctypes.byref(args))
            error = float(((y.float() - wanted) / (1 + wanted.abs())).abs().max())
            if not error <= SELF_TEST_TOLERANCE:
                raise KernelUnavailableError(f"the linear kernel is off by {error:.1e} in its self-test")
