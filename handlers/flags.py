"""How flags are spelled and read: from the command line, the environment or a YAML file. Knows no single flag."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")

DECIMAL_SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BINARY_SUFFIXES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})


class UsageError(Exception):
    """What was asked for makes no sense: one line with the cause, one with the way out."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}\n{remedy}")
        self.cause = cause
        self.remedy = remedy


def switch(text: str) -> bool:
    """A boolean from the environment; files have their own, command lines have `--x` and `--no-x`."""
    if text.lower() in TRUE_WORDS | FALSE_WORDS:
        return text.lower() in TRUE_WORDS
    raise ValueError("must be true or false")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One setting and every way to give it.

    `parse` turns text into the value and raises ValueError with a rule ("must be …"). `many` flags take several
    values after one flag and may be repeated. A `parse` that is `switch` makes a flag without a value.
    """

    name: str
    group: str
    help: str
    parse: Callable[[str], Any] = str
    metavar: str = "TEXT"
    many: bool = False
    short: str | None = None
    keys: tuple[tuple[str, str], ...] = ()
    """Of a JSON flag: spellings such as --x-name that set one key of its object, and the keys."""
    is_secret: bool = False
    """Never shown, not even when it is wrong: error output ends in logs."""

    @property
    def spelling(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def is_switch(self) -> bool:
        return self.parse is switch

    def value_of(self, given: object, where: str) -> Any:
        """The value from text, or from what a YAML file holds. Raises UsageError naming `where` it came from."""
        if self.many:
            several = given if isinstance(given, list) else [given]
            return tuple(self._one(each, where) for each in several)
        return self._one(given, where)

    def _one(self, given: object, where: str) -> Any:
        if isinstance(given, bool) and self.is_switch:
            return given
        shown = "not shown here" if self.is_secret else repr(given)
        if isinstance(given, dict) and self.metavar == "JSON":
            given = json.dumps(given, default=str)
        if isinstance(given, bool) or given is None or isinstance(given, (list, dict)):
            raise UsageError(
                f"{where} is {shown}, which is no {'switch' if self.is_switch else 'single value'}",
                f"{self.spelling} takes {self.metavar}: {self.help}",
            )
        try:
            return self.parse(str(given))
        except ValueError as error:
            shown = "not shown here" if self.is_secret else repr(str(given))
            raise UsageError(f"{where} is {shown}, but {error}", f"{self.spelling}: {self.help}") from error


def size(text: str) -> int:
    """An integer; `16k` is 16000 and `1.5k` 1500 (decimal, lower case), `16K` is 16384 (binary, upper case)."""
    number, suffix = text[:-1], text[-1:]
    try:
        if suffix in BINARY_SUFFIXES:
            return int(number) * BINARY_SUFFIXES[suffix]
        if suffix in DECIMAL_SUFFIXES:
            return round(float(number) * DECIMAL_SUFFIXES[suffix])
        return int(text)
    except (ValueError, OverflowError):
        raise ValueError("must be a whole number such as 4096, 4k (4000) or 4K (4096)") from None


def positive_size(text: str) -> int:
    return _checked(size(text), lambda value: value >= 1, "must be at least 1")


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """Whole numbers from `low` to `high`, both included."""
    rule = f"must be a whole number from {low} to {high}" if high is not None else f"must be a whole number ≥ {low}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(rule) from None
        return _checked(value, lambda number: low <= number and (high is None or number <= high), rule)

    return parse


def seconds(text: str) -> float:
    rule = "must be a number of seconds, 0 or more"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(rule) from None
    return _checked(value, lambda number: 0 <= number < 1e9, rule)


def number(text: str) -> float:
    rule = "must be a number, 0 or more"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(rule) from None
    return _checked(value, lambda found: 0 <= found < 1e9, rule)


def share(text: str) -> float:
    """A part of a whole."""
    rule = "must be a number above 0 and at most 1"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(rule) from None
    return _checked(value, lambda number: 0 < number <= 1, rule)


def positive_seconds(text: str) -> float:
    return _checked(seconds(text), lambda value: value > 0, "must be a number of seconds above 0")


def json_object(*, without: frozenset[str] = frozenset()) -> Callable[[str], dict[str, Any]]:
    """A JSON object that has none of the keys `without`. In a YAML file it may be written as a mapping."""

    def parse(text: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("must be a JSON object in one line, quoted for the shell") from None
        if not isinstance(found, dict):
            raise ValueError("must be a JSON object")
        if taken := sorted(without & found.keys()):
            raise ValueError(f"must not set {', '.join(taken)}, which the server does itself")
        return found

    return parse


def one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        return _checked(text.lower(), lambda value: value in choices, f"must be one of {', '.join(choices)}")

    return parse


def _checked(value: T, is_good: Callable[[T], bool], rule: str) -> T:
    if not is_good(value):
        raise ValueError(rule)
    return value


def unknown_name(name: str, known: Sequence[str], what: str) -> UsageError:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    advice = f"did you mean {near[0]}? " if near else ""
    return UsageError(f"{what} {shlex.quote(name)}", f"{advice}serve --help lists every flag")


def read_environment(flags: Sequence[Flag], environment: Mapping[str, str], prefix: str) -> dict[str, Any]:
    """Settings from `PREFIX_NAME` variables; lists are separated by commas. Raises UsageError."""
    found = {}
    for flag in flags:
        variable = f"{prefix}_{flag.name.upper()}"
        text = environment.get(variable, "")
        # Kubernetes sets NAME_PORT=tcp://… for a service called like the prefix; that is no setting of ours.
        if text and not text.startswith("tcp://"):
            given: object = [part.strip() for part in text.split(",")] if flag.many else text
            found[flag.name] = flag.value_of(given, variable)
    return found


class UniqueKeys(yaml.SafeLoader):
    """YAML whose mappings name a key once; the plain loader would keep the last value in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"{key.value} is given twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_file(
    flags: Sequence[Flag], path: str, others: Mapping[str, Callable[[Any, str], object]] | None = None
) -> dict[str, Any]:
    """Settings from a YAML mapping of long flag names without the dashes. Raises UsageError.

    `others` are keys that are no flags: each gets the value and the path, and says what it means.
    """
    if not path.endswith((".yaml", ".yml")):
        raise UsageError(f"--config {path} is no YAML file", "its name must end in .yaml or .yml")
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), UniqueKeys)
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror}", "check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        problem = getattr(error, "problem", None) or "it is not text"
        raise UsageError(f"--config {path} is not valid YAML{place}: {problem}", "repair the file") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(
            f"--config {path} holds a {type(content).__name__}, not settings", "write one 'flag: value' a line"
        )
    named = {key: read(content.pop(key), path) for key, read in (others or {}).items() if key in content}
    return named | settings_of(flags, content, f"--config {path}", path)


def settings_of(flags: Sequence[Flag], content: Mapping[Any, Any], whole: str, place: str) -> dict[str, Any]:
    """A mapping of flag names to values, as settings. `whole` and `place` name it in errors. Raises UsageError."""
    by_name = {flag.name: flag for flag in flags}
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in by_name:
            known = [flag.spelling[2:] for flag in flags]
            raise unknown_name(str(key), known, f"{whole} has an unknown key")
        if name in found:
            raise UsageError(f"{whole} gives {key} twice", "keep one of them")
        found[name] = by_name[name].value_of(value, f"{key} in {place}")
    return found
