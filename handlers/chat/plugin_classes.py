"""How classes in plugin files say under which names they are to be known, in the form users of other servers write."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar

C = TypeVar("C", bound=type)


class ParserManager:
    """Its decorator notes names in a class, as `attribute`; whoever loads the file collects them."""

    attribute: ClassVar[str]

    @classmethod
    def register_module(
        cls, name: str | Sequence[str] | None = None, force: bool = True, module: type | None = None
    ) -> Callable[[C], C]:
        """One name or several; without any the class's own."""

        def note(parser: C) -> C:
            names = [parser.__name__] if name is None else [name] if isinstance(name, str) else list(name)
            setattr(parser, cls.attribute, tuple(names))
            return parser

        if module is not None:
            note(module)
        return note

    @classmethod
    def names_of(cls, value: object) -> tuple[str, ...]:
        """Those noted in a class; nothing else has any."""
        return getattr(value, cls.attribute, ()) if inspect.isclass(value) else ()
