"""What the output of a request must look like, before anything is compiled. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

GrammarKind = Literal["json_schema", "json_object", "regex", "choice", "grammar", "structural_tag", "answer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarSpec:
    """One constraint of a whole answer. Two equal specs are the same grammar, so a spec is also a cache key.

    source                 json_schema: the schema as JSON text; json_object: empty; regex: the pattern the whole answer
                           matches; choice: a JSON array of texts; grammar: EBNF or Lark; structural_tag: JSON text;
                           answer: JSON text of a structural tag with the formats of `engine.grammars.answers`
    parts                  answer: the `rules` of constraints that passed their checks, for its format `part`
    strict                 False: what the grammar library cannot enforce is left out of a JSON schema instead of
                           refused, and listed in `widened`
    any_whitespace         False: no free white space in JSON
    whitespace_pattern     regular expression of the white space in JSON; None: a little, as printers write it
    additional_properties  False: objects of a JSON schema have only the properties it names
    rules                  filled in by the check: the same in the grammar library's language,
    widened                JSON pointers of the keywords that were left out,
    num_bytes              what the compiled grammar takes, about,
    param                  and the request field it came from, for errors on the way
    """

    kind: GrammarKind
    source: str = ""
    parts: tuple[str, ...] = ()
    strict: bool = True
    any_whitespace: bool = True
    whitespace_pattern: str | None = None
    additional_properties: bool = True
    rules: str = ""
    widened: tuple[str, ...] = ()
    num_bytes: int = 0
    param: str = field(default="", compare=False)
