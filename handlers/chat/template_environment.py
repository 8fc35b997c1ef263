"""Jinja as chat templates expect it: in a sandbox, with the names they use, and quick at what they do all the time."""

from __future__ import annotations

import json
from _json import make_encoder
from datetime import datetime
from json.encoder import encode_basestring
from typing import Any

from jinja2 import TemplateError, Undefined, nodes
from jinja2.compiler import CodeGenerator, Frame, optimizeconst
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from specserve.handlers.chat.conversation import KnownObject

DICT_ATTRIBUTES = frozenset(dir(dict))
LOOP_ATTRIBUTES = frozenset("first last index index0 revindex revindex0 length depth depth0".split())
"""Of Jinja's `loop`: numbers and truth values, which any template may see."""


class GenerationTag(Extension):
    """`{% generation %}` marks the assistant's text for training; for serving it is nothing but its body."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own form

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class EntriesFirst(CodeGenerator):
    """Most of what templates read are entries of objects: `message.role`.

    Jinja first tries attributes, which a dict has few of, and catches an exception for each; looking at once where
    the value is finds the same.
    """

    @optimizeconst
    def visit_Getattr(self, node: nodes.Getattr, frame: Frame) -> None:
        name = node.attr
        if name in DICT_ATTRIBUTES:
            super().visit_Getattr(node, frame)
            return
        self.write(f"((v[{name!r}] if {name!r} in v else environment.absent[{name!r}]) if isinstance(v := ")
        self.visit(node.node, frame)
        self.write(", dict) else ")
        if name in LOOP_ATTRIBUTES:
            self.write(f"v.{name} if type(v) is LoopContext else ")
        self.write(f"environment.getattr(v, {name!r}))")


class AbsentEntries(dict[str, Undefined]):
    """What templates get for entries that an object does not have, by name: it tells of nothing but name and type."""

    def __missing__(self, name: str) -> Undefined:
        found = self[name] = Undefined(obj={}, name=name)
        return found


class Environment(ImmutableSandboxedEnvironment):
    """The sandbox, asked only where its answer can differ: together this takes two thirds off a whole template."""

    code_generator_class = EntriesFirst

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._safe: dict[tuple[type, str], bool] = {}  # only attributes that exist come here, so it stays small
        self.absent = AbsentEntries()  # names stand in templates, so this too stays small

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict) and attribute not in DICT_ATTRIBUTES:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Depends on type and name alone."""
        key = type(obj), attr
        is_safe = self._safe.get(key)
        if is_safe is None:
            is_safe = self._safe[key] = super().is_safe_attribute(obj, attr, value)
        return is_safe

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """The template's own macros are safe, and it is known what they want to be told."""
        if type(function) is not Macro:
            return super().call(context, function, *args, **kwargs)
        kwargs.pop("_loop_vars", None)
        kwargs.pop("_block_vars", None)
        is_plain = not (kwargs or function.caller or function.catch_kwargs or function.catch_varargs)
        if is_plain and len(args) == function._argument_count and not context.eval_ctx.autoescape:
            return function._func(*args)  # nothing to be sorted out before
        return function(context.eval_ctx, *args, **kwargs)


def template_environment() -> Environment:
    """A new one; every template has its own."""
    environment = Environment(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols])
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    environment.filters["tojson"] = to_json
    return environment


def raise_exception(message: str) -> None:
    raise TemplateError(message)


def not_json(value: object) -> None:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


plain_json = make_encoder(None, not_json, encode_basestring, None, ": ", ", ", False, False, True)
"""What `json.dumps(…, ensure_ascii=False)` makes anew for every value."""


def to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
    """Unlike Jinja's own filter this does not escape for HTML, which no model was trained on."""
    if ensure_ascii or indent is not None or more:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)
    if type(value) is KnownObject:
        if value._json is None:
            value._json = write_json(value)
        return value._json
    return encode_basestring(value) if type(value) is str else write_json(value)


def write_json(value: Any) -> str:
    return "".join(plain_json(value, 0))


def strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
