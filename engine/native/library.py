"""The built library, loaded: which instruction sets this processor can use of it."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch

from specserve.engine.native import build


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


def load_library() -> Library:
    """Built now if it was not before. Raises KernelUnavailableError."""
    try:
        return _loaded(build.find_or_build())
    except build.BuildError as error:
        raise KernelUnavailableError(str(error)) from error


@cache
def _loaded(path: Path) -> Library:
    return Library(path)
