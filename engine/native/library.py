"""The built library, loaded: which instruction sets this processor can use of it.

SPECSERVE_CPU_ISA forces one of them (avx512_bf16, avx512, avx2), or `torch` for no kernel at all.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

import torch

from specserve.engine.native import build

ISA_VARIABLE = "SPECSERVE_CPU_ISA"


class KernelUnavailableError(Exception):
    """A kernel cannot be used here; the message says why."""


class Library:
    """Functions by name. `isas` are the instruction sets that this processor has, best first, never empty."""

    def __init__(self, path: Path) -> None:
        """Raises KernelUnavailableError."""
        self.path = path
        try:
            self._functions = ctypes.CDLL(str(path))
        except OSError as error:
            raise KernelUnavailableError(str(error)) from error
        self.isas = [isa for isa in build.ISA_FLAGS if self._functions[f"specserve_supports_{isa}"]()]
        if not self.isas:
            raise KernelUnavailableError("this processor has neither AVX2 nor AVX-512")
        if self.max_threads() != torch.get_num_threads():
            raise KernelUnavailableError("the kernels would run on another OpenMP runtime than torch's")

    def max_threads(self) -> int:
        """Threads of the OpenMP runtime the library runs on."""
        return int(self._functions.specserve_max_threads())

    def function(self, name: str) -> ctypes._NamedFuncPointer:
        """A function that takes the address of its arguments' structure and returns 0 if all went well."""
        found = self._functions[name]
        found.argtypes = (ctypes.c_void_p,)
        return found


def asked_isa() -> str | None:
    """The instruction set asked for with SPECSERVE_CPU_ISA."""
    return os.environ.get(ISA_VARIABLE) or None


def usable_isas(library: Library) -> list[str]:
    """Those of the processor that SPECSERVE_CPU_ISA does not exclude."""
    asked = asked_isa()
    return [isa for isa in library.isas if asked in (None, isa)]


def load_library() -> Library:
    """Built now if it was not before. Raises KernelUnavailableError."""
    try:
        return _loaded(build.find_or_build())
    except build.BuildError as error:
        raise KernelUnavailableError(str(error)) from error


@cache
def _loaded(path: Path) -> Library:
    return Library(path)
