"""A GPU that is not there: its tensors say they are on `cuda:0`, hold their numbers on the CPU, and mix with no others.

What is computed is exact, so an engine that is told to use this GPU has to give the answers of a CPU; and an operator
that gets tensors of both devices fails as it would on a card. Not covered: compiled kernels, streams, captured graphs.

For a process of its own: the guard that is loaded stays, and would hide a GPU that is there.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.cpp_extension import include_paths, library_paths
from transformers import PreTrainedModel
from triton.runtime.interpreter import GridExecutor

from specserve.engine.runner import model_runner

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
TAKES_INDICES_FROM_THE_HOST = ("aten::index.", "aten::index_put", "aten::_index_put_impl_", "aten::_unsafe_index")
MEMORY = 80 << 30


class OnGpu(Tensor):
    """numbers  the tensor on the CPU; views of one are views of the other."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> OnGpu:
        with torch.inference_mode(False):
            made: OnGpu = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls,
                numbers.size(),
                strides=numbers.stride(),
                storage_offset=numbers.storage_offset(),
                dtype=numbers.dtype,
                layout=numbers.layout,
                device=GPU,
            )
        made.numbers = numbers
        return made

    def __init__(self, numbers: Tensor) -> None:
        pass

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGpu({self.numbers!r})"

    def __getitem__(self, index: Any) -> Tensor:
        """torch makes a list a tensor without asking anybody."""
        parts = index if isinstance(index, tuple) else (index,)
        return super().__getitem__(tuple(torch.tensor(part) if isinstance(part, list) else part for part in parts))

    def tolist(self) -> Any:
        return self.numbers.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class _Dispatch(TorchDispatchMode):
    """For operators that make tensors, or move them from the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """An operator over the numbers. Raises RuntimeError where a GPU would not find all of them."""
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [leaf for leaf in given if isinstance(leaf, OnGpu)]
    args, kwargs = list(args), dict(kwargs)
    moves, to_gpu = func is torch.ops.aten.copy_.default, bool(there)
    if moves:
        to_gpu = isinstance(args[0], OnGpu)
    for at, argument in enumerate(func._schema.arguments):
        if "Device" in str(argument.type):
            device = args[at] if at < len(args) else kwargs.get(argument.name)
            if device is not None:
                moves, to_gpu = True, torch.device(device).type == "cuda"
            if to_gpu and device is not None and at < len(args):
                args[at] = CPU
            elif to_gpu and device is not None:
                kwargs[argument.name] = CPU
    here = [tuple(leaf.shape) for leaf in given if not isinstance(leaf, OnGpu) and leaf.ndim > 0]
    if there and here and not moves and not func.name().startswith(TAKES_INDICES_FROM_THE_HOST):
        raise RuntimeError(f"{func} got tensors on {GPU} and, of shapes {here}, on the CPU")
    if "pin_memory" in kwargs:
        kwargs["pin_memory"] = False
    plain, named = tree_map_only(OnGpu, lambda each: each.numbers, (tuple(args), kwargs))
    if func is torch.ops.aten.histc.default and not plain[0].is_floating_point():  # a GPU has it for integers
        out = func(plain[0].float(), *plain[1:], **named).to(plain[0].dtype)
    else:
        out = func(*plain, **named)
    by_numbers = {id(each.numbers): each for each in there}
    if moves and func is not torch.ops.aten.copy_.default:  # a copy, even if all numbers are on the CPU in truth
        sources = {id(each) for each in given} if to_gpu else set(by_numbers)
        out = tree_map_only(Tensor, lambda each: each.clone() if id(each) in sources else each, out)
    if not to_gpu:
        return out
    return tree_map_only(Tensor, lambda each: by_numbers[id(each)] if id(each) in by_numbers else _on_gpu(each), out)


def _on_gpu(tensor: Tensor) -> OnGpu:
    return tensor if isinstance(tensor, OnGpu) else OnGpu(tensor)


@cache
def load_guard() -> ctypes.CDLL:
    """Compiled by the C++ compiler that the engine's own kernels need as well."""
    source = Path(__file__).with_suffix(".cpp")
    places = [f"-I{path}" for path in include_paths()]
    for path in library_paths():
        places += [f"-L{path}", f"-Wl,-rpath,{path}"]
    with TemporaryDirectory() as folder:
        library = Path(folder) / "pretended_gpu.so"
        command = ["c++", "-std=c++20", "-shared", "-fPIC", str(source), *places, "-lc10", "-o", str(library)]
        subprocess.run(command, check=True)
        return ctypes.CDLL(str(library))


class _Event:
    """All work is done when it is launched."""

    def record(self) -> None: ...

    def synchronize(self) -> None: ...


class _NoGraph:
    """Computes the step anew in the place of a replay."""

    def record(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        step()
        return step


def _with_index(value: Any) -> Any:
    """torch asks the driver which GPU is meant by no number."""
    if isinstance(value, str | torch.device) and torch.device(value) == torch.device("cuda"):
        return GPU
    return value


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """torch finds a GPU, and Triton's interpreter takes its tensors. Checkpoints are read as ever, without it."""
    load_guard()
    to, tensor = Tensor.to, torch.tensor
    launch = GridExecutor.__call__
    read = PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def moved(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return to(self, *map(_with_index, args), **{name: _with_index(value) for name, value in kwargs.items()})

    def made(data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
        found = tensor(data, **kwargs)
        return found if device is None else found.to(device)

    def launched(self: Any, *args: Any, **kwargs: Any) -> Any:
        plain, named = tree_map_only(OnGpu, lambda each: each.numbers, (args, kwargs))
        return launch(self, *plain, **named)

    @classmethod  # type: ignore[misc]
    def read_without(cls: Any, *args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes(), mock.patch.multiple(torch, tensor=tensor), _overwriting(False):
            return read(cls, *args, **kwargs)

    properties = SimpleNamespace(multi_processor_count=2, total_memory=MEMORY)
    with ExitStack() as stack:
        for place, values in (
            (
                torch.cuda,
                {
                    "_lazy_init": lambda: None,
                    "is_available": lambda: True,
                    "current_device": lambda: 0,
                    "get_device_capability": lambda *_: (9, 0),
                    "get_device_properties": lambda *_: properties,
                    "mem_get_info": lambda *_: (MEMORY - (10 << 30), MEMORY),
                    "memory_allocated": lambda *_: 0,
                    "max_memory_allocated": lambda *_: 1 << 20,
                    "reset_peak_memory_stats": lambda *_: None,
                    "empty_cache": lambda: None,
                    "Event": _Event,
                },
            ),
            (torch.version, {"cuda": "13.0"}),
            (torch, {"tensor": made}),
            (Tensor, {"to": moved}),
            (GridExecutor, {"__call__": launched}),
            (PreTrainedModel, {"from_pretrained": read_without}),
            (model_runner, {"CudaRecorder": _NoGraph, "GraphClock": lambda: lambda work: float(work().shape[0])}),
        ):
            stack.enter_context(mock.patch.multiple(place, **values))
        stack.enter_context(_overwriting(True))
        stack.enter_context(_Dispatch())
        yield


@contextmanager
def _overwriting(value: bool) -> Iterator[None]:
    """Whether modules that move get new parameters: an old one cannot become a tensor of another class."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(value)
    try:
        yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
