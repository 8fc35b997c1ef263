"""Small pieces of llguidance's rule language: literals, patterns, EBNF, the white space of JSON."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import llguidance
from llguidance.gbnf_to_lark import any_to_lark

from specserve.engine.errors import GrammarError
from specserve.engine.grammar_spec import GrammarSpec

BOUNDED_WHITESPACE = r"[ \t]{1,4}|\r?\n[ \t]{0,80}"
"""White space between two parts of JSON: a few blanks, or one line break and an indentation. Never endless."""
FREELY = '%llguidance {"no_forcing": true}'
"""Any tokens may spell a text that is certain. Else the library asks a tokenizer for them, and allows only those."""
MAX_NESTING = 64
MAX_CHOICES = 10_000
_EBNF_RULE = re.compile(r"^\s*[\w-]+\s*::=", re.MULTILINE)
_UNICODE_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))")


def whitespace_options(spec: GrammarSpec) -> dict[str, Any]:
    """The library's options for the white space in JSON."""
    if not spec.any_whitespace:
        return {"whitespace_flexible": False}
    return {"whitespace_pattern": spec.whitespace_pattern or BOUNDED_WHITESPACE}


def checked_pattern(pattern: str) -> str:
    if "\0" in pattern:
        raise GrammarError("a regular expression cannot hold a NUL character; write \\x00")
    return str(llguidance.regex_to_lark(pattern, "dws"))


def choice_rules(choices: Any) -> str:
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, str) for choice in choices):
        raise GrammarError("choice must be a list of at least one text")
    if len(choices) > MAX_CHOICES:
        raise GrammarError(f"choice has {len(choices)} texts, the limit is {MAX_CHOICES}")
    # One terminal: alternatives of a rule are followed one by one, those of a terminal as one automaton.
    return f"{FREELY}\nstart: CHOICE\nCHOICE: " + " | ".join(literal(choice) for choice in choices)


def literal(text: str) -> str:
    """A text as Lark writes it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def lark_of(source: str) -> str:
    """Lark as it is; EBNF with `::=` rules, of which one is `root`, rewritten. Raises GrammarError."""
    if not source.strip():
        raise GrammarError("the grammar is blank")
    if not _EBNF_RULE.search(source):
        return source
    if not re.search(r"^\s*root\s*::=", source, re.MULTILINE):
        raise GrammarError("an EBNF grammar begins at a rule named root, and there is none; add root ::= …")
    if nesting(source) > MAX_NESTING:
        raise GrammarError(f"the grammar's parentheses are nested deeper than {MAX_NESTING} levels, the limit")
    try:
        return any_to_lark(_UNICODE_ESCAPE.sub(_plain_character, source))
    except Exception as error:  # the converter raises bare exceptions too
        raise GrammarError(f"the EBNF grammar cannot be read: {str(error)[:300]}") from None


def _plain_character(escape: re.Match[str]) -> str:
    """The converter writes \\u escapes that the library does not read; characters need none."""
    code = int(escape[2] or escape[3], 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise GrammarError(f"{escape[0][-10:]} is not a character")
    return escape[1] + (f"\\x{code:02x}" if code < 0x80 else chr(code))


def nesting(text: str) -> int:
    deepest = depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def json_rule(schema: Any, spec: GrammarSpec) -> str:
    """JSON of a rewritten schema, as the right side of a rule."""
    options = {**whitespace_options(spec), "lenient": False, "coerce_one_of": False}
    document = schema if isinstance(schema, dict) else {"allOf": [schema]}
    return "%json " + json.dumps({**document, "x-guidance": options})


def several_grammars(first: str, others: Mapping[str, str]) -> str:
    """Rules beginning at `first`, which may refer to grammars of their own, by @name."""
    named = {"main": f"{FREELY}\n{first}", **others}
    return json.dumps({"grammars": [{"name": name, "lark_grammar": lark} for name, lark in named.items()]})


def grammars_in(rules: str) -> tuple[str, dict[str, str]]:
    """The first of the grammars in checked rules, and those it refers to."""
    if not rules.startswith("{"):
        return rules, {}
    first, *others = json.loads(rules)["grammars"]
    return first["lark_grammar"], {other["name"]: other["lark_grammar"] for other in others}


def name_of(grammar: str) -> str:
    """What a grammar beside others is called: grammars with one name are the same grammar."""
    return f"g_{hashlib.sha256(grammar.encode()).hexdigest()[:24]}"
