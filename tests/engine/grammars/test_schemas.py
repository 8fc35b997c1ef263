"""Whatever tokens are chosen at random: an answer that ends is valid, says an independent validator."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from random_writer import write
from schema_cases import SCHEMAS
from trained_tokenizers import byte_fallback, byte_level

from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.vocabulary import Vocabulary
from specserve.engine.tokenizer import load_tokenizer

NUM_ANSWERS = 6
Writer = tuple[GrammarCompiler, Vocabulary]


@pytest.fixture(scope="module", params=[byte_level, byte_fallback], ids=["byte-level", "byte-fallback"])
def writer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Writer:
    make: Callable[[Path], Path] = request.param
    tokenizer = load_tokenizer(make(tmp_path_factory.mktemp("tokenizer")))
    vocabulary = Vocabulary.of(tokenizer, tokenizer.vocab_size + 5, tokenizer.eos_token_ids)
    return GrammarCompiler(vocabulary), vocabulary


def exact(text: str) -> Any:
    """JSON with its numbers as they are written: binary fractions would not be multiples of a tenth."""
    return json.loads(text, parse_float=lambda digits: as_number(Fraction(digits)))


def as_number(value: Fraction) -> int | Fraction:
    return int(value) if value.denominator == 1 else value


def is_number(checker: object, instance: object) -> bool:
    return isinstance(instance, int | float | Fraction) and not isinstance(instance, bool)


def with_exact_bounds(value: Any) -> Any:
    if isinstance(value, float):
        return as_number(Fraction(str(value)))
    if isinstance(value, list):
        return [with_exact_bounds(item) for item in value]
    return {key: with_exact_bounds(item) for key, item in value.items()} if isinstance(value, dict) else value


def problems(schema: Any, value: Any) -> list[str]:
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    exactly = jsonschema.validators.extend(kind, type_checker=kind.TYPE_CHECKER.redefine("number", is_number))
    validator = exactly(with_exact_bounds(schema), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    return [error.message for error in validator.iter_errors(value)]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_answer_that_ends_validates(name: str, writer: Writer) -> None:
    compiler, vocabulary = writer
    schema = SCHEMAS[name]
    checked = compiler.check(GrammarSpec(kind="json_schema", source=json.dumps(schema)))
    matcher = compiler.compile(checked)
    answers = [answer for seed in range(NUM_ANSWERS) if (answer := write(matcher, vocabulary, seed)) is not None]
    assert answers, "none of the answers came to an end"
    for answer in answers:
        assert problems(schema, exact(answer.decode("utf-8"))) == [], answer


def test_a_json_object_is_an_object(writer: Writer) -> None:
    compiler, vocabulary = writer
    matcher = compiler.compile(compiler.check(GrammarSpec(kind="json_object")))
    answers = [answer for seed in range(30) if (answer := write(matcher, vocabulary, seed)) is not None]
    assert len(answers) > 10
    assert all(isinstance(json.loads(answer), dict) for answer in answers)


def test_the_same_schema_never_loses_a_keyword_in_silence(writer: Writer) -> None:
    compiler, _ = writer
    for schema in SCHEMAS.values():
        assert compiler.check(GrammarSpec(kind="json_schema", source=json.dumps(schema), strict=False)).widened == ()
