"""A stand-in for CUDA graphs on a CPU: operators are recorded once and run again over the same memory.

What Python decided while recording stays decided, every result goes where it went the first time, and nothing but the
operators runs again: exactly what a graph does, so a step that is not fit for one gives wrong numbers here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Step = Callable[[], Tensor]


WAITING = (
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.item.default,
    torch.ops.aten.nonzero.default,
)
"""Operators whose result the host has to see."""


class _Recording(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in WAITING:
            raise RuntimeError(f"{func} waits for the device, which a graph cannot hold")
        self.calls.append((func, args, kwargs or {}, [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]))
        return out


class RecordedOps:
    """Counts what it recorded and replayed."""

    def __init__(self) -> None:
        self.num_recorded = 0
        self.num_replayed = 0

    def record(self, step: Step) -> Step:
        self.num_recorded += 1
        with _Recording() as recording:
            result = step()

        def replay() -> Tensor:
            self.num_replayed += 1
            for func, args, kwargs, outputs in recording.calls:
                again = [leaf for leaf in tree_leaves(func(*args, **kwargs)) if isinstance(leaf, Tensor)]
                for place, value in zip(outputs, again, strict=True):
                    if place.data_ptr() != value.data_ptr():  # neither a view nor done in place
                        place.copy_(value)
            return result

        return replay
