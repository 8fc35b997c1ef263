"""Compiles grammars for one vocabulary, within limits, and explains what does not compile."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import llguidance
import numpy as np

from specserve.engine.errors import GrammarError
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.schema_rules import escaped
from specserve.engine.grammars.translate import Translation, json_grammar, translate
from specserve.engine.grammars.vocabulary import Vocabulary

MAX_LEXER_STATES = 50_000
"""One to two KB each: what one answer may make the engine remember stays below 100 MB."""
REHEARSAL_TOKENS = 256
REHEARSAL_S = 0.3
BLAME = (
    ("oneOf constraints", ("oneOf",), "is enforced only where no value can meet two of the alternatives"),
    (
        "min/maxProperties",
        ("minProperties", "maxProperties"),
        "is enforced only where every listed property is required",
    ),
    ("patternProperty regexes", ("patternProperties",), "is enforced only where no name matches two patterns"),
    ("regex parse error", ("pattern",), "is a regular expression that is wrong or not supported"),
    ("lookarounds", ("pattern",), "holds look-around, which is not supported"),
    ("range", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), "gives a range that is not supported"),
)
"""A piece of the library's message, the keywords it is about, and what to say of them."""
MAX_REPAIRS = 16


class GrammarCompiler:
    """`compile` may be called from several threads; the library releases the interpreter lock."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Indexes the vocabulary: see `Vocabulary.index` for what that takes."""
        self._index = vocabulary.index()
        self._special_ids = vocabulary.special_ids
        self._limits = llguidance.LLParserLimits(max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)

    def compile(self, spec: GrammarSpec) -> llguidance.LLMatcher:
        """A matcher at the beginning of an answer. Raises GrammarError."""
        matcher = self._matcher(spec.rules or translate(spec, self._special_ids).text)
        if matcher.is_error():
            raise GrammarError(explained(matcher.get_error()))
        return matcher

    def check(self, spec: GrammarSpec) -> GrammarSpec:
        """The spec with its `rules`, which `compile` will accept; with less of its schema when it is not strict.

        Raises GrammarError, with the pointer of the place at fault when there is one.
        """
        translation = translate(spec, self._special_ids)
        matcher = self._matcher(translation.text)
        for _ in range(MAX_REPAIRS):
            if translation.schema is None or not matcher.is_error():
                break
            translation = self._repaired(translation, spec, matcher.get_error())
            matcher = self._matcher(translation.text)
        if matcher.is_error():
            raise GrammarError(explained(matcher.get_error()))
        rehearse(matcher, self._index.vocab_size)
        return replace(spec, source="", parts=(), rules=translation.text, widened=translation.widened)

    def _matcher(self, text: str) -> llguidance.LLMatcher:
        return llguidance.LLMatcher(self._index, text, log_level=0, limits=self._limits)

    def _repaired(self, translation: Translation, spec: GrammarSpec, error: str) -> Translation:
        """Without the keyword that the library complains about. Raises GrammarError when it has to stay."""
        sign, keywords, why = next((row for row in BLAME if row[0] in error), ("", (), ""))
        path = self._path_to(translation.schema, spec, sign or explained(error))
        pointer = "".join(f"/{escaped(step)}" for step in path)
        schema = json.loads(json.dumps(translation.schema))
        place = schema
        for step in path:
            place = place[step]
        blamed = [keyword for keyword in keywords if isinstance(place, dict) and keyword in place]
        if not blamed:
            raise GrammarError(explained(error), pointer=pointer)
        if spec.strict:
            raise GrammarError(
                f"{blamed[0]} {why} ({explained(error)})", pointer=f"{pointer}/{blamed[0]}", is_unsupported=True
            )
        for keyword in blamed:
            value = place.pop(keyword)
            if keyword == "oneOf":  # at least one of them is what remains of exactly one
                place["allOf"] = [*place.get("allOf", []), {"anyOf": value}]
        widened = (*translation.widened, *(f"{pointer}/{keyword}" for keyword in blamed))
        return Translation(json_grammar(schema, spec), widened, schema)

    def _path_to(self, schema: Any, spec: GrammarSpec, sign: str) -> list[str | int]:
        """Steps to the innermost subschema that alone brings an error with this sign."""
        path: list[str | int] = []
        shared = {key: schema[key] for key in ("$defs", "definitions") if isinstance(schema, dict) and key in schema}
        while isinstance(schema, dict):
            for steps, child in children(schema):
                alone = {**shared, **child} if isinstance(child, dict) else child
                error = self._matcher(json_grammar(alone, spec)).get_error()
                if sign in error or sign == explained(error):
                    path += steps
                    schema = child
                    break
            else:
                break
        return path


def children(schema: dict[str, Any]) -> Iterator[tuple[list[str | int], Any]]:
    """Subschemas of a schema, with the steps to each."""
    for keyword in ("properties", "patternProperties", "$defs", "definitions"):
        named = schema.get(keyword)
        for name, child in named.items() if isinstance(named, dict) else ():
            yield [keyword, name], child
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems", "items", "additionalProperties", "additionalItems"):
        value = schema.get(keyword)
        if isinstance(value, dict):
            yield [keyword], value
        for at, child in enumerate(value) if isinstance(value, list) else ():
            yield [keyword, at], child


def explained(error: str) -> str:
    """The library's message in one bounded line, without remarks for its developers."""
    line = " ".join(re.split(r"\n\s+1 \|", error.replace("<non-verbose/>", " "))[0].split())
    line = re.sub(r"^at \d+\(\d+\): (failed to compile JSON schema: |(?=invalid regex))", "", line)
    if "NoExtension" in line:
        return "no text can meet this constraint"
    if "too big" in line or "too many" in line or "limit" in line:
        return f"the constraint is too large or too complex ({line[:200]}); simplify it"
    return line[:400]


def rehearse(matcher: llguidance.LLMatcher, vocab_size: int) -> None:
    """Write the beginning of an answer at random, so that what breaks at once breaks here. Raises GrammarError."""
    trial = matcher.deep_copy()
    dice = random.Random(0)
    bits = np.zeros(-(-vocab_size // 32), dtype=np.int32)
    deadline = time.monotonic() + REHEARSAL_S
    for number in range(REHEARSAL_TOKENS):
        trial.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        if trial.is_error():
            raise GrammarError(explained(trial.get_error()))
        allowed = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little"))
        if not len(allowed):
            raise GrammarError("no text can meet this constraint")
        trial.consume_token(int(dice.choice(allowed)))
        if trial.is_error():
            raise GrammarError(explained(trial.get_error()))
        if trial.is_stopped() or (number and time.monotonic() > deadline):
            return
