"""The command line: flags with dashes or underscores, and objects whole or key by key. Knows no single flag."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from specserve.handlers.flags import Flag, UsageError, size, unknown_name


class Parser(argparse.ArgumentParser):
    """argparse that reports in two lines, knows the nearest flag and takes underscores for dashes."""

    def __init__(self, flags: Sequence[Flag], **options: Any) -> None:
        super().__init__(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS, **options)
        self._flags = {flag.spelling: flag for flag in flags}
        groups: dict[str, argparse._ArgumentGroup] = {}
        for flag in flags:
            if flag.group not in groups:
                groups[flag.group] = self.add_argument_group(flag.group)
            group = groups[flag.group]
            spellings = [flag.spelling] if flag.short is None else [flag.short, flag.spelling]
            if flag.is_switch:
                group.add_argument(
                    *spellings, dest=flag.name, action=argparse.BooleanOptionalAction, help=_escaped(flag.help)
                )
            elif flag.many:
                group.add_argument(
                    *spellings,
                    dest=flag.name,
                    nargs="+",
                    action="extend",
                    metavar=flag.metavar,
                    help=_escaped(flag.help),
                )
            else:
                group.add_argument(*spellings, dest=flag.name, metavar=flag.metavar, help=_escaped(flag.help))

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"{self.prog} --help lists every flag")

    def read(self, argv: Sequence[str], is_more: Callable[[str], bool] = lambda word: False) -> dict[str, Any]:
        """What the command line gives, by setting; under "more" the words after the first that `is_more` takes.

        Raises UsageError.
        """
        objects = [flag for flag in self._flags.values() if flag.metavar == "JSON"]
        long = {flag.short: flag.spelling for flag in objects if flag.short is not None}
        long |= {spelling: f"{flag.spelling}.{key}" for flag in objects for spelling, key in flag.keys}
        words = [with_long_name(_dashed(word), long) for word in argv]
        found, unknown = self.parse_known_args(with_whole_objects(words, [flag.spelling for flag in objects]))
        words, unknown = [w for w in unknown if is_more(w)], [w for w in unknown if not is_more(w)]
        if unknown and not unknown[0].startswith("-"):
            raise UsageError(
                f"{shlex.quote(unknown[0])} is one word too many",
                "one model is given as it is, several as NAME=MODEL; quote values that contain spaces",
            )
        if unknown:
            raise unknown_name(unknown[0].partition("=")[0], list(self._option_string_actions), "there is no flag")
        given = vars(found)
        flags = {flag.name: flag for flag in self._flags.values()}
        return {
            name: flags[name].value_of(value, flags[name].spelling) if name in flags else value
            for name, value in given.items()
        } | ({"more": words} if words else {})


def with_long_name(word: str, long: Mapping[str, str]) -> str:
    """`-x.a=1` becomes `--example.a=1` where `long` says so of `-x`."""
    spelled, equals, value = word.partition("=")
    head, dot, path = spelled.partition(".")
    return word if head not in long else long[head] + dot + path + equals + value


def with_whole_objects(argv: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Dotted forms put together: `--x.a.b 1 --x.l+ y` becomes `--x {"a": {"b": 1}, "l": ["y"]}` for `--x` in `flags`.

    Values are JSON, else sizes such as 4k, else text. They are added to an object that is given as a whole.
    Raises UsageError.
    """
    kept: list[str] = []
    objects: dict[str, dict[str, Any]] = {}
    words = iter(argv)
    for word in words:
        spelled, equals, value = word.partition("=")
        flag, dot, path = spelled.partition(".")
        if flag not in flags:
            kept.append(word)
            continue
        if not equals:
            value = next(words, "")
        if not dot:
            kept += [flag, value]
            continue
        *parents, last = path.split(".")
        place = objects.setdefault(flag, {})
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise UsageError(f"{spelled} goes on from {parent}, which has a value already", "keep one of the two")
        if last.endswith("+"):
            place.setdefault(last[:-1], []).extend(typed(part) for part in (value.split(",") if equals else [value]))
        else:
            place[last] = typed(value)
    for flag, dotted in objects.items():
        if flag in kept:
            at = len(kept) - 1 - kept[::-1].index(flag) + 1
            kept[at] = json.dumps(json.loads(kept[at]) | dotted) if is_object(kept[at]) else kept[at]
        else:
            kept = [flag, json.dumps(dotted), *kept]
    return kept


def typed(text: str) -> Any:
    for read in (json.loads, size):
        try:
            return read(text)
        except (ValueError, RecursionError):
            continue
    return text


def is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _dashed(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    name, dot, keys = name.partition(".")
    return name.replace("_", "-") + dot + keys + equals + value


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
