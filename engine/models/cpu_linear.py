"""Weights in the packed form of native/linear.cpp, and the call of it."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from specserve.engine.models import weight_forms
from specserve.engine.models.weight_forms import CpuForm
from specserve.engine.native.library import KernelUnavailableError, load_library, usable_isas

ISA = "avx512_bf16"
TURN = 16
"""Features of the gate and of the other factor take turns in runs of this length."""
SCRATCH_MULTIPLE = 64
"""Scratch space has the rows of the activations, and their length up to a multiple of this."""
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
        ("form", ctypes.c_int32),
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
    """A weight [N, K], K even in bfloat16, with an optional bias [N]; `struct` is what C++ reads of it."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, form: CpuForm = weight_forms.BFLOAT16) -> None:
        self._packed = form.pack(weight)
        self._bias = None if bias is None else bias.float().contiguous()
        self.struct = LinearWeight(
            packed=self._packed.data_ptr(),
            bias=None if self._bias is None else self._bias.data_ptr(),
            n=weight.shape[0],
            k=weight.shape[1],
            form=form.code,
        )


class CpuProduct:
    """x [..., K] → x Wᵀ + b [..., N] in bfloat16."""

    def __init__(self, weight: Tensor, bias: Tensor | None, form: CpuForm = weight_forms.BFLOAT16) -> None:
        self._weight = PackedWeight(weight, bias, form)
        self._run = load_library().function(f"specserve_linear_{ISA}")

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        rows = rows if rows.stride(1) == 1 else rows.contiguous()
        struct = self._weight.struct
        y = x.new_empty(rows.shape[0], struct.n)
        scratch = x.new_empty(rows.shape[0], scratch_width(struct.k))
        args = LinearArgs(
            weight=struct,
            x=rows.data_ptr(),
            scratch=scratch.data_ptr(),
            y=y.data_ptr(),
            x_stride=rows.stride(0),
            y_stride=struct.n,
            m=rows.shape[0],
            result=BFLOAT16,
            num_threads=torch.get_num_threads(),
        )
        self._run(ctypes.byref(args))
        return y.view(*x.shape[:-1], struct.n)


def scratch_width(num_in: int) -> int:
    """How many bfloat16 a product needs as scratch space for each row."""
    return -(-num_in // SCRATCH_MULTIPLE) * SCRATCH_MULTIPLE


def in_turns(gate: Tensor, other: Tensor) -> Tensor:
    """[I, …] twice → [2 I, …]: TURN of the gate, TURN of the other, and so on. I is a multiple of TURN."""
    shape = (-1, TURN, *gate.shape[1:])
    return torch.stack([gate.reshape(shape), other.reshape(shape)], dim=1).reshape(-1, *gate.shape[1:])


def self_test() -> None:
    """Compare small products of every kind with float32. Raises KernelUnavailableError.

    Processors with AMX are left to oneDNN, which computes many rows several times faster with it.
    """
    if torch.cpu._is_amx_tile_supported():
        raise KernelUnavailableError("oneDNN uses AMX here")
    check_form(weight_forms.BFLOAT16)


def check_form(form: CpuForm) -> None:
    """The same for one form of weights, with or without AMX. Raises KernelUnavailableError."""
    library = load_library()
    if ISA not in usable_isas(library):
        raise KernelUnavailableError(f"{ISA} is not there, or another instruction set was asked for")
    linear = library.function(f"specserve_linear_{ISA}")
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).bfloat16()

    for rows, num_out, num_in in ((1, 64, 34), (31, 160, 66), (70, 96, 80)):
        x, weight, bias = draw(rows, num_in), draw(num_out, num_in) / num_in**0.5, draw(num_out)
        packed = PackedWeight(weight, bias, form)
        truth = F.linear(x.float(), form.rounded(weight), bias.float())
        turns = truth.view(rows, -1, 2, TURN)
        for result, dtype, wanted in (
            (BFLOAT16, torch.bfloat16, truth),
            (FLOAT32, torch.float32, truth),
            (ADD_TO, torch.float32, truth + 1),
            (SILU_MUL, torch.bfloat16, (F.silu(turns[:, :, 0]) * turns[:, :, 1]).flatten(1)),
        ):
            y, scratch = torch.ones(wanted.shape, dtype=dtype), x.new_empty(rows, scratch_width(num_in))
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
                raise KernelUnavailableError(f"the {form.name} kernel is off by {error:.1e} in its self-test")
