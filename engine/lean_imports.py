"""Imports transformers without what serving never uses: seconds of every start, and the memory of it.

At its import transformers takes in torch's compiler, distributed tensors, its own generation loop, and scipy, sklearn
and pandas where they are installed. All of that hangs on a few names, which are others while it is imported: flags say
that a library is not there, and marks for the compiler leave functions as they are. Nothing that a forward pass calls
is touched, and what a model's module asks for later comes as it is. The tests compare both ways.
"""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

COMPILER = "torch._dynamo"
MASK_INDEXING = f"{COMPILER}._trace_wrapped_higher_order_op"
MARKS = ("disable", "allow_in_graph", "assume_constant_result")
"""Decorators that tell the compiler something: nothing is compiled here."""
FLAGS = ("is_torch_distributed_available", "is_torch_flex_attn_available", "is_scipy_available", "is_sklearn_available")
"""Functions of transformers.utils, which its modules ask once."""
WANTED = (
    "transformers.modeling_utils",
    "transformers.masking_utils",
    "transformers.modeling_layers",
    "transformers.processing_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.configuration_auto",
)


class GenerationMixin:
    """Stands for transformers' class of this name: models are only called here, and never generate by themselves."""


def import_transformers() -> None:
    """Import what loading a model needs of transformers, unless it has been imported.

    Where a version of it does not go with this, nothing of it stays, and whoever imports it next gets the whole.
    """
    if "transformers" in sys.modules:
        return
    try:
        with _without_compiler(), _distributions_on_demand():
            import_module("transformers")
            generation: Any = import_module("transformers.generation")
            generation.GenerationMixin = GenerationMixin
            with _without_libraries():
                for name in WANTED:
                    import_module(name)
    except Exception as error:
        logger.info("transformers is imported as a whole: %s: %s", type(error).__name__, error)
        for name in [name for name in sys.modules if name.partition(".")[0] == "transformers"]:
            del sys.modules[name]


class _Compiler(ModuleType):
    """Stands for torch's compiler while decorators of it are all that is wanted."""

    __path__: list[str] = []  # noqa: RUF012 - what makes a module a package

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in MARKS:
            raise AttributeError(f"{COMPILER} has been left out, and {name} is needed of it")
        return _mark


def _mark(function: T | None = None, *arguments: object, **options: object) -> T | Callable[[T], T]:
    """Also with arguments: `@mark(reason=…)`."""
    return function if function is not None else lambda marked: marked


@contextmanager
def _without_compiler() -> Iterator[None]:
    if COMPILER in sys.modules:
        yield
        return
    indexing: Any = ModuleType(MASK_INDEXING)
    indexing.TransformGetItemToIndex = _true_mask_indexing
    stand_ins = {COMPILER: _Compiler(COMPILER), MASK_INDEXING: indexing}
    sys.modules |= stand_ins
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _true_mask_indexing() -> Any:
    """Masks of some models are made inside of this context; it comes with the compiler, when such a model is served."""
    return import_module(MASK_INDEXING).TransformGetItemToIndex()


@contextmanager
def _without_libraries() -> Iterator[None]:
    with ExitStack() as undo:
        for place in (import_module("transformers.utils"), import_module("transformers.utils.import_utils")):
            for name in FLAGS:
                undo.callback(setattr, place, name, getattr(place, name))
                setattr(place, name, _is_never_there)
        yield


def _is_never_there() -> bool:
    return False


@contextmanager
def _distributions_on_demand() -> Iterator[None]:
    """Which distributions are installed is read when the first one is asked for that bears another name than its
    package: it takes up to a second, and transformers asks for few."""
    read_all = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = lambda: _Distributions(read_all)
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = read_all


class _Distributions(dict[str, list[str]]):
    """Names of distributions by that of the package, as `importlib.metadata.packages_distributions` gives them."""

    def __init__(self, read_all: Callable[[], Any]) -> None:
        super().__init__()
        self._read_all = read_all

    def __missing__(self, name: str) -> list[str]:
        self.update(self._read_all())
        return dict.get(self, name, [])

    def get(self, name: str, default: Any = None) -> Any:
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            return self[name] or default
        return [name]
