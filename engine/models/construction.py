"""How transformers' modules are made before their weights are read: at once, and without torch's compiler.

transformers makes them on the meta device, where torch computes much of the little that constructors compute (frequencies
of rotary embeddings, positions, random weights) in Python: that brings in its reference operators, sympy and the
compiler, 1.5 s of a start. Here the same tensors are made on the CPU: memory that nobody writes costs nothing, and
drawing weights that are about to be read from a file is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

META = torch.device("meta")
DRAWING = frozenset(
    {
        nn.init.normal_,
        nn.init.uniform_,
        nn.init.trunc_normal_,
        nn.init.kaiming_normal_,
        nn.init.kaiming_uniform_,
        nn.init.xavier_normal_,
        nn.init.xavier_uniform_,
        nn.init.orthogonal_,
    }
)
"""Functions that fill a tensor with random numbers, which they take first or as `tensor`."""


class OnHost(TorchFunctionMode):
    """A context in which the meta device is the CPU, and no weights are drawn."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        if func in DRAWING:
            return args[0] if args else options["tensor"]
        device = options.get("device")
        if device is not None and torch.device(device) == META:
            options = options | {"device": "cpu"}
        return func(*args, **options)
