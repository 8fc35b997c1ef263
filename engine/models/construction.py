"""How transformers' modules are made before their weights are read: at once, and without torch's compiler.

transformers makes them on the meta device, where torch computes in Python much of the little that constructors compute
(frequencies of rotary embeddings, positions, random weights): that brings in its reference operators, sympy and the
compiler, 1.5 s of a start. Here the same tensors are made on the CPU: memory that nobody writes costs nothing, and
weights that are about to be read from a file are not drawn first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

META = torch.device("meta")
INITIALIZERS = ("torch.nn.init", "transformers.initialization")
"""transformers puts functions of its own in the place of torch's while it makes a module."""
DRAWING = frozenset(
    f"{distribution}_"
    for distribution in (
        *("normal", "uniform", "trunc_normal", "kaiming_normal", "kaiming_uniform"),
        *("xavier_normal", "xavier_uniform", "orthogonal", "sparse"),
    )
)
"""Functions of INITIALIZERS that fill a tensor with random numbers. They take it first, or as `tensor`."""


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
        if getattr(func, "__module__", None) in INITIALIZERS and func.__name__ in DRAWING:
            return args[0] if args else options["tensor"]
        device = options.get("device")
        if device is not None and torch.device(device) == META:
            options = options | {"device": "cpu"}
        return func(*args, **options)
