"""How transformers' modules are made before their weights are read: without torch's compiler.

transformers makes them on the meta device, where torch computes in Python what constructors compute beside weights
(positions, frequencies of rotary embeddings, random numbers): that brings in its reference operators, sympy and the
compiler, 1.5 s of a start. Here what counts is counted on the CPU, weights that are about to be read from a file are
not drawn first, and the rest stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

META = torch.device("meta")
COUNTING = (torch.arange, torch.linspace)
"""What they count is computed with further, with numbers of the configuration."""
ALIKE: dict[Callable[..., Tensor], Callable[..., Tensor]] = {
    torch.empty_like: torch.empty,
    torch.zeros_like: torch.zeros,
}
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


class Construction(TorchFunctionMode):
    """A context for `from_pretrained`. The values of the module's weights and buffers are the same as without it.

    Constructors that join what they count with tensors on the meta device raise a RuntimeError (see `is_mixture`).
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        # An empty one asks where tensors are made.
        is_number = func in COUNTING or (func is torch.tensor and bool(args) and args[0] != [])
        if is_number and torch.device(options.get("device") or "cpu") == META:
            return func(*args, **options | {"device": "cpu"})
        if func in ALIKE and set(options) <= {"device", "dtype"} and len(args) == 1 and args[0].is_meta:
            options = {"dtype": args[0].dtype, "device": META} | options
            return ALIKE[func](args[0].shape, **options)
        if getattr(func, "__module__", None) in INITIALIZERS and func.__name__ in DRAWING:
            filled: Tensor = args[0] if args else options["tensor"]
            if filled.is_meta:
                return filled
        return func(*args, **options)


def is_mixture(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and META.type in str(error)
