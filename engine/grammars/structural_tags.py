"""Structural tags: free text in which certain regions follow a grammar. From their JSON to Lark rules.

A tag is {"type": "structural_tag", "format": …}; the older form lists `structures` and `triggers`. Formats nest:
const_string, json_schema, regex, grammar, any_text, sequence, or, tag, triggered_tags, tags_with_separator.
Free text is what holds none of the triggers, so that no region can be entered without its grammar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from specserve.engine.errors import GrammarError
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.rules import checked_pattern, json_rule, lark_of, literal, name_of, several_grammars
from specserve.engine.grammars.schema_rules import SchemaRewriter, escaped, kind_of

MAX_DEPTH = 80
MAX_FORMATS = 1000
ANY_TEXT = "/(?s:.*)/"


NO_SPECIALS: Mapping[str, int] = MappingProxyType({})


class TagWriter:
    """Writes one structural tag as rules. Each method returns the name of the rule for a format.

    Fixed texts that are special tokens of the model may be written as such: `special_ids` has them by their texts.
    """

    def __init__(self, spec: GrammarSpec, special_ids: Mapping[str, int] = NO_SPECIALS) -> None:
        self._spec = spec
        self._special_ids = special_ids
        self._rules: list[str] = []
        self._grammars: dict[str, str] = {}
        self._widened: list[str] = []
        self._num_formats = 0
        self._kinds = self.kinds()

    def kinds(self) -> dict[str, Callable[[dict[str, Any], str, int], str]]:
        return {
            "const_string": self._const_string,
            "json_schema": self._json_schema,
            "regex": self._regex,
            "grammar": self._grammar,
            "any_text": self._any_text,
            "sequence": self._sequence,
            "or": self._or,
            "tag": self._tag,
            "triggered_tags": self._triggered_tags,
            "tags_with_separator": self._tags_with_separator,
        }

    def write(self, tag: Any) -> tuple[str, tuple[str, ...]]:
        """The library's grammar, and pointers of what was left out of its schemas. Raises GrammarError."""
        if not isinstance(tag, dict):
            raise GrammarError(f"a structural tag must be an object, not {kind_of(tag)}")
        if isinstance(tag.get("format"), dict):
            start = self.format(tag["format"], "/format")
        elif "structures" in tag or "triggers" in tag:
            start = self.format(modern(tag), "")
        else:
            raise GrammarError("a structural tag needs a format, or structures and triggers", pointer="/format")
        lark = "\n".join([f"start: {start}", *self._rules])
        return several_grammars(lark, self._grammars), tuple(self._widened)

    def format(self, value: Any, pointer: str, depth: int = 0) -> str:
        """The rule of one format, whatever its kind."""
        self._num_formats += 1
        if depth > MAX_DEPTH or self._num_formats > MAX_FORMATS:
            raise GrammarError(
                f"a structural tag may nest {MAX_DEPTH} levels and have {MAX_FORMATS} formats; simplify it",
                pointer=pointer,
            )
        kind = value.get("type") if isinstance(value, dict) else None
        writer = self._kinds.get(kind) if isinstance(kind, str) else None
        if writer is None:
            raise GrammarError(
                f"{str(kind)[:40]!r} is not a format of structural tags here; there are {', '.join(self._kinds)}",
                pointer=f"{pointer}/type",
                is_unsupported=True,
            )
        return writer(value, pointer, depth + 1)

    # ---- formats without others inside ---------------------------------------------------------------------

    def _const_string(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        return self._rule(self._literal(text_of(value, "value", pointer)))

    def _json_schema(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        if value.get("style", "json") != "json":
            raise GrammarError("style json is the only one", pointer=f"{pointer}/style", is_unsupported=True)
        return self._schema(value.get("json_schema", True), f"{pointer}/json_schema")

    def _schema(self, schema: Any, pointer: str) -> str:
        rewriter = SchemaRewriter(
            strict=self._spec.strict, additional_properties=self._spec.additional_properties, widened=self._widened
        )
        rewritten = rewriter.rewrite(schema, pointer)
        return self._rule(json_rule(rewritten, self._spec))

    def _regex(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        return self._rule(f"/{checked_pattern(text_of(value, 'pattern', pointer))}/")

    def _grammar(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        return self._rule(self._other(lark_of(text_of(value, "grammar", pointer))))

    def _any_text(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        return self._terminal(ANY_TEXT)

    # ---- formats of others ---------------------------------------------------------------------------------

    def _sequence(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        elements = list_of(value, "elements", pointer)
        parts: list[str] = []
        at = 0
        while at < len(elements):
            element, place = elements[at], f"{pointer}/elements/{at}"
            if is_free(element) and at + 1 < len(elements):
                following = elements[at + 1]
                if not (isinstance(following, dict) and following.get("type") == "const_string"):
                    raise GrammarError("any_text must be the last element or come before a const_string", pointer=place)
                parts.append(self._until(text_of(following, "value", f"{pointer}/elements/{at + 1}")))
                at += 1
            else:
                parts.append(self.format(element, place, depth))
            at += 1
        return self._rule(" ".join(parts))

    def _or(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        elements = list_of(value, "elements", pointer)
        return self._rule(
            " | ".join(self.format(element, f"{pointer}/elements/{at}", depth) for at, element in enumerate(elements))
        )

    def _tag(self, value: dict[str, Any], pointer: str, depth: int, trigger: str = "") -> str:
        begin = text_of(value, "begin", pointer)[len(trigger) :]
        ends: list[Any] = value["end"] if isinstance(value.get("end"), list) else [value.get("end")]
        if not ends or not all(isinstance(end, str) for end in ends):
            raise GrammarError("a tag needs an end: a text, or a list of them", pointer=f"{pointer}/end")
        content = value.get("content", {"type": "any_text"})
        if is_free(content):
            if not all(ends):
                raise GrammarError("any_text inside a tag needs an end that is not empty", pointer=f"{pointer}/end")
            inner = self._until(*ends)
        else:
            closing = self._rule(" | ".join(self._literal(end) for end in ends))
            inner = f"{self.format(content, f'{pointer}/content', depth)} {closing}"
        return self._rule(f"{self._literal(begin)} {inner}")

    def _triggered_tags(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        triggers = list_of(value, "triggers", pointer)
        tags = list_of(value, "tags", pointer)
        if not all(isinstance(trigger, str) and trigger for trigger in triggers):
            raise GrammarError("triggers must be texts that are not empty", pointer=f"{pointer}/triggers")
        bodies: dict[str, list[str]] = {}
        whole: list[str] = []
        for at, tag in enumerate(tags):
            place = f"{pointer}/tags/{at}"
            if not isinstance(tag, dict):
                raise GrammarError("a tag must be an object", pointer=place)
            begin = text_of(tag, "begin", place)
            trigger = next((trigger for trigger in triggers if begin.startswith(trigger)), None)
            if trigger is None:
                raise GrammarError(f"begin {begin[:40]!r} starts with none of the triggers", pointer=f"{place}/begin")
            bodies.setdefault(trigger, []).append(self._tag(tag, place, depth, trigger))
            # A special token may be the beginning of the tag, and more than the trigger.
            longer = [mark for mark in self._specials_in(begin) if begin.startswith(mark) and len(mark) > len(trigger)]
            whole += [f"<[{self._special_ids[mark]}]> {self._tag(tag, place, depth, mark)}" for mark in longer]
        excluded = [*triggers, *(text for text in value.get("excludes") or () if isinstance(text, str) and text)]
        choices = [
            f"{self._until(*excluded, ending=trigger)} ({' | '.join(found)})" for trigger, found in bodies.items()
        ]
        if whole:
            choices.append(f"{self._without(*excluded)} ({' | '.join(whole)})")
        region = self._rule(" | ".join(choices))
        tail = self._without(*excluded)
        at_least_one, only_one = bool(value.get("at_least_one")), bool(value.get("stop_after_first"))
        if only_one:
            return region if at_least_one else self._rule(f"{region} | {tail}")
        return self._rule(f"{region}{'+' if at_least_one else '*'} {tail}")

    def _tags_with_separator(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        tags = list_of(value, "tags", pointer)
        found = [
            self.format({"type": "tag", **tag} if isinstance(tag, dict) else tag, f"{pointer}/tags/{at}", depth)
            for at, tag in enumerate(tags)
        ]
        one = self._rule(" | ".join(found))
        separator = self._literal(text_of(value, "separator", pointer))
        every = one if value.get("stop_after_first") else self._rule(f"{one} ({separator} {one})*")
        return every if value.get("at_least_one") else self._rule(f"{every}?")

    # ---- rules ---------------------------------------------------------------------------------------------

    def _until(self, *ends: str, ending: str | None = None, body: str = ANY_TEXT) -> str:
        """Free text up to the first of `ends`, which it includes; with `ending`, only where that one comes first.

        `body` is the expression of the text before.
        """
        last = (ending,) if ending is not None else ends
        spelled = self._terminal(f"({body} ({alternatives(last)})) & ~({ANY_TEXT} ({alternatives(ends)}) /(?s:.+)/)")
        special = [text for text in last if self._specials_in(text)]
        if not special:
            return spelled
        closing = " | ".join(self._literal(text) for text in special)
        return self._rule(f"{spelled} | {self._without(*ends, body=body)} ({closing})")

    def _without(self, *excluded: str, body: str = ANY_TEXT) -> str:
        """Free text that holds none of these."""
        return self._terminal(f"{body} & ~({ANY_TEXT} ({alternatives(excluded)}) {ANY_TEXT})" if excluded else body)

    def _literal(self, text: str) -> str:
        """A fixed text, of which pieces may be special tokens."""
        found = self._specials_in(text)
        if not found:
            return literal(text)
        pieces = re.split("|".join(f"({re.escape(special)})" for special in found), text)
        written = [
            f"({literal(piece)} | <[{self._special_ids[piece]}]>)" if piece in found else literal(piece)
            for piece in pieces
            if piece
        ]
        return f"({' '.join(written)})"

    def _specials_in(self, text: str) -> list[str]:
        """Longest first."""
        found = [special for special in self._special_ids if special in text]
        return sorted(found, key=len, reverse=True)

    def _other(self, grammar: str) -> str:
        """A reference to a grammar beside this one."""
        self._grammars[name_of(grammar)] = grammar
        return f"@{name_of(grammar)}"

    def _rule(self, body: str) -> str:
        name = f"rule_{len(self._rules)}"
        self._rules.append(f"{name}: {body}")
        return name

    def _terminal(self, body: str) -> str:
        name = f"TEXT_{len(self._rules)}"
        self._rules.append(f"{name}: {body}")
        return name


def modern(tag: dict[str, Any]) -> dict[str, Any]:
    """The older form, structures and triggers, as triggered tags."""
    structures = tag.get("structures")
    tags = []
    for at, structure in enumerate(structures if isinstance(structures, list) else ()):
        if not isinstance(structure, dict):
            raise GrammarError("a structure must be an object", pointer=f"/structures/{at}")
        schema = structure.get("schema")
        tags.append(
            {
                "begin": structure.get("begin"),
                "content": {"type": "json_schema", "json_schema": True if schema is None else schema},
                "end": structure.get("end"),
            }
        )
    return {"type": "triggered_tags", "triggers": tag.get("triggers"), "tags": tags}


def is_free(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "any_text"


def alternatives(texts: tuple[str, ...] | list[str]) -> str:
    return " | ".join(literal(text) for text in texts)


def text_of(value: dict[str, Any], name: str, pointer: str) -> str:
    found = value.get(name)
    if not isinstance(found, str):
        raise GrammarError(f"{name} must be a text", pointer=f"{pointer}/{escaped(name)}")
    return found


def list_of(value: dict[str, Any], name: str, pointer: str) -> list[Any]:
    found = value.get(name)
    if not isinstance(found, list) or not found:
        raise GrammarError(f"{name} must be a list with at least one entry", pointer=f"{pointer}/{escaped(name)}")
    return found
