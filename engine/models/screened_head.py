"""An output head that finds the highest logit of a row exactly while most others are computed roughly.

See native/screening.cpp. It reads a second form of the head, in int8, so memory grows by half of the head's.
"""

from __future__ import annotations

import ctypes

import torch

from specserve.engine.models.cpu_linear import ISA, LinearWeight
from specserve.engine.models.step_memory import StepMemory
from specserve.engine.models.weight_forms import BFLOAT16, FEATURES, INT8
from specserve.engine.native.library import load_library

LEAST_FEATURES = 4096
"""Smaller heads are read from caches anyway."""
MOST_EXACT = 0.125
"""Where more of the head has to be computed twice than this, nothing is gained."""
REST = 64
"""For so many steps the screening rests then."""
BOUNDS_KEPT = 4 << 20


class RoughHead(ctypes.Structure):
    """Mirrors the struct of the same name in native/screening.h."""

    _fields_ = (("packed", ctypes.c_void_p), ("norms", ctypes.c_void_p))


class ScreenArgs(ctypes.Structure):
    """Mirrors the struct of the same name in native/screening.h."""

    _fields_ = (
        ("head", LinearWeight),
        ("rough", RoughHead),
        *((name, ctypes.c_void_p) for name in ("x", "scratch", "bounds", "y")),
        *((name, ctypes.c_int32) for name in ("m", "num_threads", "most", "num_exact")),
    )


class RoughenArgs(ctypes.Structure):
    """Mirrors the struct of the same name in native/screening.h."""

    _fields_ = (
        ("head", LinearWeight),
        ("packed", ctypes.c_void_p),
        ("norms", ctypes.c_void_p),
        ("num_threads", ctypes.c_int32),
    )


class ScreenedHead:
    """`begin` before a step whose rows want no more than their highest logit, `end` after it."""

    def __init__(self, head: LinearWeight) -> None:
        """`head` fits (see `fits`) and stays where it is."""
        self._num_blocks = -(-head.n // FEATURES)
        num_groups = -(-head.k // INT8.group)
        self._packed = torch.empty(self._num_blocks, num_groups, FEATURES * (2 + INT8.group), dtype=torch.uint8)
        self._norms = torch.empty(2, self._num_blocks * FEATURES)
        rough = RoughHead(self._packed.data_ptr(), self._norms.data_ptr())
        args = RoughenArgs(head, rough.packed, rough.norms, torch.get_num_threads())
        load_library().function(f"specserve_roughen_{ISA}")(ctypes.byref(args))
        self.args = ScreenArgs(rough=rough)
        self._bounds = StepMemory(BOUNDS_KEPT)
        self._resting = 0 if bool(self._norms.isfinite().all()) else -1

    def begin(self, num_rows: int) -> int:
        """The address of `args` for a step over so many rows, or 0 where all logits are to be computed."""
        if self._resting:
            self._resting -= self._resting > 0
            return 0
        blocks = -(-self._num_blocks // 16) * 16
        self.args.bounds = self._bounds.take(2 * 4 * blocks * num_rows).data_ptr()
        self.args.most = int(MOST_EXACT * self._num_blocks * num_rows)
        return ctypes.addressof(self.args)

    def end(self) -> None:
        if self.args.num_exact > self.args.most:
            self._resting = REST


def fits(head: LinearWeight) -> bool:
    return head.form == BFLOAT16.code and not head.bias and head.n >= LEAST_FEATURES
