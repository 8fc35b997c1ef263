"""From a `GrammarSpec` to the text that llguidance compiles. Pure functions; `schema_rules` says what is enforced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from specserve.engine.errors import GrammarError
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.answers import AnswerWriter
from specserve.engine.grammars.rules import (
    FREELY,
    checked_pattern,
    choice_rules,
    json_rule,
    lark_of,
    name_of,
    several_grammars,
)
from specserve.engine.grammars.schema_rules import SchemaRewriter, parse
from specserve.engine.grammars.structural_tags import NO_SPECIALS, TagWriter

MAX_SOURCE_CHARS = 1_000_000


@dataclass(frozen=True, slots=True)
class Translation:
    """`text` is what the library compiles; `schema`, for a JSON schema, the rewritten schema in it."""

    text: str
    widened: tuple[str, ...] = ()
    schema: Any = None


def translate(spec: GrammarSpec, special_ids: Mapping[str, int] = NO_SPECIALS) -> Translation:
    """`special_ids` are the special tokens by their texts, which marks in an answer may be. Raises GrammarError."""
    if len(spec.source) > MAX_SOURCE_CHARS:
        raise GrammarError(f"the constraint has {len(spec.source)} characters, the limit is {MAX_SOURCE_CHARS}")
    match spec.kind:
        case "json_schema":
            return translate_schema(parse(spec.source, "the JSON schema"), spec)
        case "json_object":
            return Translation(json_grammar({"type": "object"}, spec))
        case "regex":
            return Translation(f"{FREELY}\nstart: /{checked_pattern(spec.source)}/")
        case "choice":
            return Translation(choice_rules(parse(spec.source, "choice")))
        case "grammar":
            own = lark_of(spec.source)
            return Translation(several_grammars(f"start: @{name_of(own)}", {name_of(own): own}))
        case "structural_tag":
            return Translation(*TagWriter(spec, special_ids).write(parse(spec.source, "the structural tag")))
        case "answer":
            return Translation(*AnswerWriter(spec, special_ids).write(parse(spec.source, "the answer's form")))


def translate_schema(schema: Any, spec: GrammarSpec) -> Translation:
    rewriter = SchemaRewriter(strict=spec.strict, additional_properties=spec.additional_properties)
    rewritten = rewriter.rewrite(schema)
    return Translation(json_grammar(rewritten, spec), tuple(rewriter.widened), rewritten)


def json_grammar(schema: Any, spec: GrammarSpec) -> str:
    return f"{FREELY}\nstart: {json_rule(schema, spec)}"
