"""How many tokens a text has at least, against the tokens it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from trained_tokenizers import CORPUS, KINDS, TEXTS

from specserve.engine.token_lengths import max_chars_per_token
from specserve.engine.tokenizer import load_tokenizer

COMPOSING = ["\u03b1\u0313\u0300\u0345", "\u1112\u1161\u11ab", "e\u0301", "o\u0308\u0304"]
"""Each becomes one character when composed: the first from four, which is the most there is."""
TEXT = st.lists(st.sampled_from([*TEXTS, *COMPOSING, " " * 40, "hello", "\n\n"]) | st.text(max_size=20)).map("".join)
BYTES = pre_tokenizers.ByteLevel.alphabet()


def byte_level(normalizer: Any = None, pre_tokenizer: Any = None, alphabet: list[str] = BYTES) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False)
    if normalizer is not None:
        backend.normalizer = normalizer
    corpus = [*CORPUS, *(text * 5 for text in COMPOSING), " " * 40]
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, special_tokens=["<|a special token|>"])
    backend.train_from_iterator(corpus, trainer)
    return backend


def byte_fallback() -> Tokenizer:
    """As Gemma: spaces become ▁, unknown characters the tokens of their bytes."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"▁": 256, "▁▁": 257, "h": 258, "▁h": 259}
    backend = Tokenizer(models.BPE(vocabulary, [("▁", "▁"), ("▁", "h")], byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return backend


KEEPING: dict[str, Callable[[], Tokenizer]] = {
    "byte level": byte_level,
    "composed": lambda: byte_level(normalizers.NFC()),
    "taken apart and composed": lambda: byte_level(normalizers.Sequence([normalizers.NFD(), normalizers.NFC()])),
    "byte fallback": byte_fallback,
}
LOSING: dict[str, Callable[[], Tokenizer]] = {
    "a normalizer that drops": lambda: byte_level(normalizers.Strip()),
    "a normalizer that shortens": lambda: byte_level(normalizers.Replace("  ", " ")),
    "a normalizer with a pattern": lambda: byte_level(normalizers.Replace(Regex(" +"), " ")),
    "a pre-tokenizer that drops": lambda: byte_level(
        pre_tokenizer=pre_tokenizers.Sequence(
            [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    ),
    "bytes without a token": lambda: byte_level(alphabet=[]),
}


@pytest.fixture(scope="module", params=KEEPING)
def keeping(request: pytest.FixtureRequest) -> Tokenizer:
    return KEEPING[request.param]()


@given(text=TEXT)
def test_no_text_has_fewer_tokens_than_its_length_says(keeping: Tokenizer, text: str) -> None:
    longest = max_chars_per_token(keeping)
    assert longest is not None
    assert len(keeping.encode(text, add_special_tokens=False).ids) * longest >= len(text)


def test_the_longest_token_decides() -> None:
    long = AddedToken("x" * 100)
    plain, composing = byte_level(), byte_level(normalizers.NFC())
    for backend in (plain, composing):
        backend.add_tokens([long])
    assert max_chars_per_token(plain) == 100
    assert max_chars_per_token(composing) == 400, "it may have been written in four times as many characters"


@pytest.mark.parametrize("kind", LOSING)
def test_nothing_is_said_where_text_may_get_lost(kind: str) -> None:
    backend = LOSING[kind]()
    assert max_chars_per_token(backend) is None


def test_nothing_is_said_where_tokens_take_white_space_with_them() -> None:
    backend = byte_level()
    backend.add_tokens([AddedToken("<mask>", lstrip=True)])
    assert max_chars_per_token(backend) is None


@pytest.mark.parametrize(("kind", "is_known"), [("byte_level", True), ("word_piece", False), ("unigram", False)])
def test_loaded_tokenizers_tell_it(kind: str, is_known: bool, tmp_path: Any) -> None:
    assert (load_tokenizer(KINDS[kind](tmp_path)).max_token_chars is not None) == is_known
