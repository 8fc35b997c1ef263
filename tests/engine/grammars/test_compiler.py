"""Patterns, choices and grammars: only what they describe is written, and what is wrong is explained."""

from __future__ import annotations

import ast
import json
import re

import pytest
from random_writer import allowed_tokens, write

from specserve.engine.errors import GrammarError
from specserve.engine.grammar_spec import GrammarKind, GrammarSpec
from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.vocabulary import Vocabulary

PATTERNS = [
    r"[a-c]{2,4}",
    r"^\d{3}-\d{4}$",
    r"(yes|no|maybe)( please)?",
    r"[^a-z]{3}",
    r"\w+@\w+\.(com|org)",
    r"a?b*c+d{2}",
    r"https?://[a-z]{1,5}/x",
    r"[äöü🙂]{1,3}",
    r".{0,4}",
    r"(a+)+$",
    r"(?i)abc",
    r"",
]
EXPRESSIONS = """
root ::= sum
sum ::= product (("+" | "-") product)*
product ::= atom (("*" | "/") atom)*
atom ::= [1-9]{1,3} | "(" sum ")"
"""
THE_SAME_IN_LARK = """
start: sum
sum: product (("+"|"-") product)*
product: atom (("*"|"/") atom)*
atom: NUMBER | "(" sum ")"
NUMBER: /[1-9]{1,3}/
"""


def texts(
    compiler: GrammarCompiler, vocabulary: Vocabulary, kind: GrammarKind, source: str, count: int = 15
) -> list[str]:
    matcher = compiler.compile(compiler.check(GrammarSpec(kind=kind, source=source)))
    found = [write(matcher, vocabulary, seed) for seed in range(count)]
    return [answer.decode("utf-8") for answer in found if answer is not None]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_answers_match_the_whole_pattern(pattern: str, compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    written = texts(compiler, vocabulary, "regex", pattern)
    assert written
    assert all(re.fullmatch(pattern, text, re.ASCII) for text in written)


def test_a_choice_is_one_of_its_texts_and_each_can_be(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    choices = ["yes", "no", 'quote " and \\ and \n', "größer 🙂", "yes please"]
    assert set(texts(compiler, vocabulary, "choice", json.dumps(choices), count=60)) == set(choices)


def test_any_split_into_tokens_is_allowed(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    matcher = compiler.compile(compiler.check(GrammarSpec(kind="choice", source='["hello world"]')))
    spelled = {vocabulary.tokens[token_id] for token_id in allowed_tokens(matcher, len(vocabulary.tokens))}
    assert {b"h", b"he"} <= spelled
    assert all(b"hello world".startswith(piece) for piece in spelled)


@pytest.mark.parametrize("source", [EXPRESSIONS, THE_SAME_IN_LARK], ids=["EBNF", "Lark"])
def test_answers_parse_by_the_grammar(source: str, compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    written = texts(compiler, vocabulary, "grammar", source)
    assert len(written) > 5
    for text in written:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))  # Python reads the same expressions
        assert all(isinstance(node, ast.Expression | ast.BinOp | ast.operator | ast.Constant) for node in nodes)


def test_escapes_of_ebnf_are_characters(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    source = r'root ::= "\u0041" [\x30-\x32] "\u00e9" "\t" "\\u0042"'
    assert set(texts(compiler, vocabulary, "grammar", source)) <= {f"A{digit}é\t\\u0042" for digit in "012"}


def test_a_finished_answer_can_only_end(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    matcher = compiler.compile(GrammarSpec(kind="regex", source="[0-9]+"))
    ends = set(vocabulary.eos_token_ids)
    assert not ends & set(allowed_tokens(matcher, len(vocabulary.tokens)).tolist())
    assert matcher.consume_token(vocabulary.tokens.index(b"7"))
    assert ends <= set(allowed_tokens(matcher, len(vocabulary.tokens)).tolist())
    assert not matcher.is_stopped()


def test_special_tokens_spell_no_text(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    matcher = compiler.compile(GrammarSpec(kind="regex", source="(?s:.)*"))
    allowed = set(allowed_tokens(matcher, len(vocabulary.tokens)).tolist())
    special = {token_id for token_id, spelled in enumerate(vocabulary.tokens) if spelled.startswith(b"\xff<|")}
    assert len(special) == 3
    assert allowed & special == set(vocabulary.eos_token_ids)


@pytest.mark.parametrize("any_whitespace", [True, False])
def test_white_space_in_json_is_bounded(
    any_whitespace: bool, compiler: GrammarCompiler, vocabulary: Vocabulary
) -> None:
    schema = {"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 2}
    spec = GrammarSpec(kind="json_schema", source=json.dumps(schema), any_whitespace=any_whitespace)
    matcher = compiler.compile(compiler.check(spec))
    written = [answer for seed in range(10) if (answer := write(matcher, vocabulary, seed)) is not None]
    assert written
    if any_whitespace:
        assert max(map(len, written)) < 4 * 82 + len("[null,null]")
        assert any(b" " in text or b"\n" in text for text in written)
    else:
        assert set(written) == {b"[null,null]"}


def test_white_space_follows_a_pattern_of_its_own(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    spec = GrammarSpec(kind="json_schema", source='{"const": [1, 2]}', whitespace_pattern="[ ]{2}")
    matcher = compiler.compile(compiler.check(spec))
    for seed in range(10):
        text = write(matcher, vocabulary, seed)
        assert text is not None
        assert set(re.findall(rb"\s+", text)) <= {b"  "}


@pytest.mark.parametrize(
    ("kind", "source", "words"),
    [
        ("regex", "(", "unclosed group"),
        ("regex", "(?=a)b", "look-around"),
        ("regex", r"(a)\1", "backreferences"),
        ("regex", "a\0b", "NUL"),
        ("choice", "[]", "at least one text"),
        ("choice", "{", "not valid JSON"),
        ("grammar", " \n", "blank"),
        ("grammar", "start: missing", "unknown name"),
        ("grammar", 'rule ::= "x"', "root"),
        ("grammar", "start: start", "no text can meet"),
        ("json_schema", "{", "not valid JSON"),
        ("json_schema", "7", "must be an object or a boolean"),
        ("json_schema", "false", "Unsatisfiable"),
        ("json_schema", '{"minimum": 5, "maximum": 3, "type": "integer"}', "minimum (5) is greater"),
        ("json_schema", '{"$ref": "#"}', "no text can meet"),
        ("json_schema", '{"const": NaN}', "NaN"),
    ],
)
def test_what_is_wrong_is_said(kind: GrammarKind, source: str, words: str, compiler: GrammarCompiler) -> None:
    with pytest.raises(GrammarError) as refused:
        compiler.check(GrammarSpec(kind=kind, source=source))
    assert words in refused.value.message
    assert len(refused.value.message) < 700
