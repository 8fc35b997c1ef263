"""Calls native/sampling.cpp: passes over logits that read and write memory once."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from specserve.engine.native.library import KernelUnavailableError, load_library, usable_isas
from specserve.engine.sampling.candidates import GROUP

_POINTER, _INT32 = ctypes.c_void_p, ctypes.c_int32
SELF_TEST_TOLERANCE = 1e-5


class WeightArgs(ctypes.Structure):
    """Mirrors the struct of the same name in native/sampling.h."""

    _fields_ = (
        *((name, _POINTER) for name in ("logits", "rows", "largest", "temperatures", "weights", "sums")),
        *((name, _INT32) for name in ("num_rows", "vocab_size", "num_threads")),
    )


class CpuPasses:
    """logits [R, V] are float32, contiguous and on the CPU; rows [r] int64 name some of them; G groups of 64."""

    def __init__(self) -> None:
        """Raises KernelUnavailableError."""
        library = load_library()
        isas = usable_isas(library)
        if not isas:
            raise KernelUnavailableError("no instruction set that was asked for is there")
        self._weigh = library.function(f"specserve_weigh_{isas[0]}")
        self._test()

    def weigh(self, logits: Tensor, rows: Tensor, largest: Tensor, temperatures: Tensor, weights: Tensor) -> Tensor:
        """exp((logit - largest) / temperature) into weights [r, V]; their sums [r, G] by groups.

        largest and temperatures [r] float32.
        """
        sums = torch.empty(len(rows), num_groups(logits))
        args = WeightArgs(
            logits=logits.data_ptr(),
            rows=rows.data_ptr(),
            largest=largest.data_ptr(),
            temperatures=temperatures.data_ptr(),
            weights=weights.data_ptr(),
            sums=sums.data_ptr(),
            num_rows=len(rows),
            vocab_size=logits.shape[1],
            num_threads=torch.get_num_threads(),
        )
        self._weigh(ctypes.byref(args))
        return sums

    def _test(self) -> None:
        """Compare a few rows with torch; a miscompiled pass must not choose tokens."""
        generator = torch.Generator().manual_seed(0)
        rows, vocab_size = torch.tensor([2, 0]), 64 * 130 + 37
        logits = torch.randn(3, vocab_size, generator=generator) * 9
        largest, temperatures = logits[rows].amax(-1), torch.tensor([0.7, 1.3])
        weights = torch.empty(2, vocab_size)
        sums = self.weigh(logits, rows, largest, temperatures, weights)
        wanted = ((logits[rows] - largest[:, None]) / temperatures[:, None]).exp()
        errors = [(weights - wanted).abs().max(), (sums.sum(-1) / wanted.sum(-1) - 1).abs().max()]
        if not max(map(float, errors)) <= SELF_TEST_TOLERANCE:
            raise KernelUnavailableError("the sampling passes fail their self-test")


def num_groups(logits: Tensor) -> int:
    return -(-logits.shape[1] // GROUP)


@cache
def _passes() -> CpuPasses | None:
    try:
        return CpuPasses()
    except KernelUnavailableError:
        return None


def passes_for(logits: Tensor) -> CpuPasses | None:
    """The passes if these logits fit them; torch serves otherwise."""
    fits = logits.device.type == "cpu" and logits.dtype == torch.float32 and logits.is_contiguous()
    return _passes() if fits else None
