"""Names that lead to objects, imported on first use: tables of backends without importing all of them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class LazyRegistry(Generic[T]):
    """Maps a name to "module:attribute", in order of preference."""

    def __init__(self, targets: dict[str, str]) -> None:
        self._targets = targets

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def load(self, name: str) -> T:
        """Raises KeyError listing the known names, or whatever importing the module raises."""
        if name not in self._targets:
            raise KeyError(f"{name!r} is not known; choose one of {', '.join(self._targets)}")
        module, _, attribute = self._targets[name].partition(":")
        return cast(T, getattr(import_module(module), attribute))
