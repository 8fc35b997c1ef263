"""Torch functions whose result for a row does not depend on the rows beside it, down to the last bit.

Torch computes the last few elements of a tensor, and of each thread's share of it, with scalar instructions that round
otherwise than the vectors before them; and products of few rows take other paths than those of many. Which elements
are the last ones, and which rows are few, depends on the batch. While this mode is on, such functions get tensors
without last elements, and products that we did not pack get rows in eights, or one by
one.

What else modules call is bit-equal by itself: sums, norms, softmax and products of the linear layers that we packed.
Nobody promises that for every version of torch and every module, so a loaded model is tried out as well
(`runner.determinism`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

ALIGNMENT = 64
"""Elements: a multiple of what one round of torch's vector loops takes, of any type and on any processor."""
ONE_THREAD = 16384
"""So few elements are computed by one thread, whatever the function: from 20 000 on some share them out."""
ALL_THREADS = 32768
"""Elements for each thread, beyond which every function is shared out evenly among all (at::internal::GRAIN_SIZE)."""
ROWS = 8
"""Rows of a plain product in bfloat16 come in multiples of this."""

_Function = Callable[..., Any]


class SameBits(TorchFunctionMode):
    """A context around the forward pass of a module on a CPU."""

    def __torch_function__(
        self, func: _Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        handler = _HANDLERS.get(func)
        if handler is None:
            return func(*args, **(kwargs or {}))
        return handler(func, args, kwargs or {})


def elementwise(function: _Function, x: Tensor) -> Tensor:
    """function(x), each element by vector instructions, wherever it lies."""
    width = x.shape[-1] if x.dim() else 1
    if x.numel() == 0:
        return torch.empty_like(x)
    rows = x.reshape(-1, width)
    padding = -width % ALIGNMENT
    if padding:
        rows = F.pad(rows, (0, padding))
    flat = rows.reshape(-1)
    pieces = [function(piece) for piece in torch.split(flat, _sizes(flat.numel(), torch.get_num_threads()))]
    result = (pieces[0] if len(pieces) == 1 else torch.cat(pieces)).view(rows.shape)
    return (result[:, :width] if padding else result).reshape(x.shape)


def _sizes(num_elements: int, num_threads: int) -> list[int]:
    """Pieces of a multiple of ALIGNMENT elements that torch shares out, if at all, in such multiples."""
    if num_threads == 1 or num_elements <= ONE_THREAD:
        return [num_elements]
    even = num_elements - num_elements % (ALIGNMENT * num_threads)
    if even > num_threads * ALL_THREADS:  # so many that every thread gets its share
        return [even, num_elements - even] if even < num_elements else [even]
    whole, left = divmod(num_elements, ONE_THREAD)
    return [ONE_THREAD] * whole + [left] * (left > 0)


def _elementwise(func: _Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    kwargs = dict(kwargs)
    in_place = bool(kwargs.pop("inplace", False))
    x = args[0] if args else kwargs.pop("input")
    result = elementwise(lambda piece: func(piece, *args[1:], **kwargs), x)
    return x.copy_(result) if in_place else result


def _product(func: _Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Of rows [..., M, K] with anything."""
    x = args[0] if args else None
    if not isinstance(x, Tensor) or x.dim() < 2 or x.shape[-1] == 1:  # a single product needs no order
        return func(*args, **kwargs)
    if func is F.linear:
        found = _rows(lambda rows: func(rows, *args[1:], **kwargs), x.reshape(-1, x.shape[-1]))
        return found.view(*x.shape[:-1], found.shape[-1])
    return _rows(lambda rows: func(rows, *args[1:], **kwargs), x)


def _rows(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """In bfloat16 by eights; other types go through libraries whose order depends on the number of rows in many ways,
    and on where a row lies in memory: each row alone, in memory of its own."""
    num_rows = x.shape[-2]
    if x.dtype != torch.bfloat16:
        return torch.cat([product(row.clone()) for row in torch.split(x, 1, -2)], -2) if num_rows else product(x)
    missing = -num_rows % ROWS
    return product(F.pad(x, (0, 0, 0, missing)))[..., :num_rows, :] if missing else product(x)


def _grouped(func: _Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """x [T, K] by weights [E, K, N] of experts, whose rows end at `offs` [E]: expert by expert, as `_rows`."""
    x, weights, *others = args
    given = {name: value for name, value in kwargs.items() if value is not None}
    offs = others[0] if others else given.pop("offs", None)
    if x.dim() != 2 or weights.dim() != 3 or offs is None or len(others) > 1 or given:
        return func(*args, **kwargs)
    result = x.new_zeros(x.shape[0], weights.shape[2])
    begin = 0
    for expert, end in enumerate(offs.tolist()):
        if end > begin:
            result[begin:end] = _rows(partial(_times, weights[expert]), x[begin:end])
        begin = end
    return result


def _times(weight: Tensor, rows: Tensor) -> Tensor:
    return rows @ weight


_HANDLERS: dict[_Function, Callable[[_Function, tuple[Any, ...], dict[str, Any]], Any]] = {
    **dict.fromkeys(
        (
            *(F.silu, F.gelu, F.sigmoid, torch.sigmoid, Tensor.sigmoid, F.softplus, F.mish, F.logsigmoid),
            *(torch.rsqrt, Tensor.rsqrt, torch.tanh, Tensor.tanh, F.tanh, torch.exp, Tensor.exp),
        ),
        _elementwise,
    ),
    torch._grouped_mm: _grouped,
    **dict.fromkeys(
        (F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, torch.bmm, Tensor.bmm), _product
    ),
}
