"""Texts that are tokenized alone, cut and joined are what the tokenizer makes of the pair."""

from __future__ import annotations

import pytest
from fake_pooling import tokenizer_of
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from specserve.handlers.pooling.frames import longest_first, pair_frame, text_frame

KINDS = ["word_piece", "byte_level", "byte_fallback"]
WORDS = st.lists(st.sampled_from("the cat sat on a mat, hello 你好 é".split()), min_size=1, max_size=8).map(" ".join)


@given(first=WORDS, second=WORDS)
@pytest.mark.parametrize("kind", KINDS)
def test_joined_texts_are_the_pair(kind: str, first: str, second: str) -> None:
    tokenizer = tokenizer_of(kind)
    left, right = tokenizer.encode_batch([first, second], add_special_tokens=False)
    assert pair_frame(tokenizer).join(left, right) == tokenizer.encode_pair(first, second)


@given(text=WORDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_framed_text_is_the_text_with_special_tokens(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    inner = tokenizer.encode(text, add_special_tokens=False)
    assert text_frame(tokenizer).around(inner) == tokenizer.encode(text, add_special_tokens=True)


@given(num_first=st.integers(1, 30), num_second=st.integers(1, 30), room=st.integers(2, 40))
def test_the_longer_text_is_cut_first_as_the_tokenizers_library_does(
    num_first: int, num_second: int, room: int
) -> None:
    library = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.enable_truncation(room, strategy="longest_first")
    found = library.encode(" ".join("a" * num_first), " ".join("b" * num_second)).ids
    assert longest_first(num_first, num_second, room) == (found.count(0), found.count(1))
