"""Structural tags: regions follow their grammar, and nothing enters a region without it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from random_writer import write

from specserve.engine.errors import GrammarError
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.vocabulary import SPECIAL_MARK, Vocabulary

NUMBER = {"type": "json_schema", "json_schema": {"type": "integer", "minimum": 0, "maximum": 9}}
TAG = {"type": "tag", "begin": "<f=a>", "content": NUMBER, "end": "</f>"}
FREE = {"type": "tag", "begin": "<f=b>", "content": {"type": "any_text"}, "end": "</f>"}


def spec_of(tag: Any) -> GrammarSpec:
    return GrammarSpec(kind="structural_tag", source=json.dumps(tag))


def takes(compiler: GrammarCompiler, vocabulary: Vocabulary, tag: Any, text: str) -> bool:
    """Whether `text` may be a whole answer."""
    matcher = compiler.compile(compiler.check(spec_of(tag)))
    token_ids = [vocabulary.tokens.index(bytes([byte])) for byte in text.encode()]
    return matcher.try_consume_tokens(token_ids) == len(token_ids) and matcher.is_accepting()


TRIGGERED = {"format": {"type": "triggered_tags", "triggers": ["<f="], "tags": [TAG, FREE]}}
OLDER = {
    "type": "structural_tag",
    "structures": [{"begin": "<f=a>", "schema": NUMBER["json_schema"], "end": "</f>"}],
    "triggers": ["<f="],
}


@pytest.mark.parametrize("tag", [TRIGGERED, OLDER], ids=["format", "structures"])
@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        ("", True),
        ("only text < and <f", True),
        ("before <f=a>7</f> after", True),
        ("<f=a>7</f><f=a>8</f>", True),
        ("<f=a>77</f>", False),
        ("<f=a>7", False),
        ("<f=c>7</f>", False),
        ("<f=", False),
    ],
)
def test_triggers_open_regions(
    tag: Any, text: str, is_taken: bool, compiler: GrammarCompiler, vocabulary: Vocabulary
) -> None:
    assert takes(compiler, vocabulary, tag, text) is is_taken


def test_free_regions_end_at_their_first_end(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    assert takes(compiler, vocabulary, TRIGGERED, "<f=b>any <f=a> text</f><f=a>1</f>")
    assert not takes(compiler, vocabulary, TRIGGERED, "<f=b>any</f><f=a>text</f>")


def test_at_least_one_and_only_one(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    def with_flags(**flags: bool) -> Any:
        return {"format": TRIGGERED["format"] | flags}

    assert not takes(compiler, vocabulary, with_flags(at_least_one=True), "text")
    assert takes(compiler, vocabulary, with_flags(at_least_one=True), "<f=a>1</f> text")
    assert not takes(compiler, vocabulary, with_flags(stop_after_first=True), "<f=a>1</f> text")
    assert takes(compiler, vocabulary, with_flags(stop_after_first=True, at_least_one=True), "x<f=a>1</f>")


@pytest.mark.parametrize(
    ("inner", "taken", "refused"),
    [
        ({"type": "const_string", "value": 'a"b'}, 'a"b', "a"),
        ({"type": "regex", "pattern": "[a-c]/[0-9]"}, "b/7", "b7"),
        ({"type": "grammar", "grammar": 'root ::= "x" root | "y"'}, "xxy", "xx"),
        ({"type": "or", "elements": [TAG, {"type": "const_string", "value": "z"}]}, "<f=a>1</f>", "zz"),
        (
            {"type": "sequence", "elements": [{"type": "any_text"}, {"type": "const_string", "value": "!"}, NUMBER]},
            "well!3",
            "well!!",
        ),
        ({"type": "tags_with_separator", "tags": [TAG], "separator": ", "}, "<f=a>1</f>, <f=a>2</f>", "<f=a>1</f>, "),
        ({"type": "tag", "begin": "[", "content": NUMBER, "end": ["]", ")"]}, "[1)", "[1"),
        ({"type": "any_text"}, "<f=a>", None),
    ],
)
def test_each_format(
    inner: Any, taken: str, refused: str | None, compiler: GrammarCompiler, vocabulary: Vocabulary
) -> None:
    assert takes(compiler, vocabulary, {"format": inner}, taken)
    assert refused is None or not takes(compiler, vocabulary, {"format": inner}, refused)


def test_fixed_texts_may_be_special_tokens_and_free_text_holds_none() -> None:
    begin, other, end = 257, 258, 256
    marks = [b"</s>", b"<f=a>", b"<other>"]
    tokens = [*(bytes([value]) for value in range(256)), *(SPECIAL_MARK + mark for mark in marks)]
    compiler = GrammarCompiler(Vocabulary(tokens, (end,)))
    matcher = compiler.compile(compiler.check(spec_of(TRIGGERED)))
    for start in ([begin], list(b"<f=a>"), [*b"text", begin]):
        assert matcher.deep_copy().try_consume_tokens([*start, *b"7</f>"]) == len(start) + 5
        assert matcher.deep_copy().try_consume_tokens([*start, *b"x"]) == len(start)
    assert matcher.deep_copy().try_consume_tokens([other]) == 0


def test_random_answers_keep_to_their_regions(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    tag = {"type": "tag", "begin": "<", "content": NUMBER, "end": ">"}
    form = {"type": "triggered_tags", "triggers": ["<"], "tags": [tag], "at_least_one": True, "excludes": ["#"]}
    matcher = compiler.compile(compiler.check(spec_of({"format": form})))
    written = [answer for seed in range(20) if (answer := write(matcher, vocabulary, seed, 2000)) is not None]
    assert len(written) > 5
    for text in written:
        assert re.fullmatch(r"(?s)([^<#]*<[0-9]>)+[^<#]*", text.decode()) is not None


@pytest.mark.parametrize(
    ("tag", "pointer"),
    [
        ({}, "/format"),
        ([], ""),
        ({"format": {"type": "dream"}}, "/format/type"),
        ({"format": {"type": "part", "at": 0}}, "/format/type"),
        ({"format": {"type": "sequence", "elements": []}}, "/format/elements"),
        ({"format": {"type": "tag", "begin": "a", "content": NUMBER}}, "/format/end"),
        ({"format": {"type": "tag", "begin": 1, "content": NUMBER, "end": ""}}, "/format/begin"),
        ({"format": {"type": "tag", "begin": "a", "end": ""}}, "/format/end"),
        ({"format": {"type": "triggered_tags", "triggers": ["<g"], "tags": [TAG]}}, "/format/tags/0/begin"),
        (
            {"format": {"type": "json_schema", "json_schema": {"items": {"not": {}}}}},
            "/format/json_schema/items/not",
        ),
        ({"format": {"type": "sequence", "elements": [{"type": "any_text"}, NUMBER]}}, "/format/elements/0"),
    ],
)
def test_the_place_at_fault_is_named(tag: Any, pointer: str, compiler: GrammarCompiler) -> None:
    with pytest.raises(GrammarError) as refused:
        compiler.check(spec_of(tag))
    assert refused.value.pointer == pointer
