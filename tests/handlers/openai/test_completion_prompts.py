"""Where tokens begin in a text, for any text, any tokens and any place where an answer begins."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_tokenizers import KINDS

from specserve.engine.api import Tokenizer
from specserve.engine.detokenizer import Detokenizer
from specserve.engine.tokenizer import load_tokenizer
from specserve.handlers.openai.completion_prompts import TextPlaces, num_leading

SPELLED = ["byte_level", "byte_fallback"]
LETTERS = "ab \t\nöß你好🙂👨‍👩‍👧e\u0301<s>"


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folders: dict[str, Path] = {name: write(tmp_path_factory.mktemp(name)) for name, write in KINDS.items()}
    return {name: load_tokenizer(folder) for name, folder in folders.items()}


def places_of(tokenizer: Tokenizer, token_ids: list[int], **options: Any) -> tuple[list[int], str]:
    """Starts, and the text with what is left unfinished at the end."""
    detokenizer = Detokenizer(tokenizer, **options)
    places = TextPlaces(detokenizer, tokenizer)
    read = [places.advance(token_id) for token_id in token_ids]
    return [begins for begins, _ in read], "".join(text for _, text in read) + detokenizer.flush()


def pieces(text: str, starts: list[int]) -> list[str]:
    return [text[begin:end] for begin, end in itertools.pairwise([*starts, len(text)])]


@pytest.mark.parametrize("kind", SPELLED)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_offsets_cut_any_tokens_text_into_the_tokens(kind: str, tokenizers: dict[str, Tokenizer], data: Any) -> None:
    tokenizer = tokenizers[kind]
    token_ids = data.draw(st.lists(st.integers(3, tokenizer.vocab_size - 1), max_size=24))
    starts, text = places_of(tokenizer, token_ids)
    assert starts == sorted(starts)
    assert "".join(pieces(text, starts)) == text[starts[0] if starts else 0 :]
    for at, (token_id, piece) in enumerate(zip(token_ids, pieces(text, starts), strict=True)):
        own = tokenizer.token_text(token_id)
        is_byte = token_id in (tokenizer.spelling.byte_ids or ())  # type: ignore[union-attr]
        if "\ufffd" in own or is_byte or at in (0, len(token_ids) - 1):
            continue  # parts of characters, whose neighbours decide; and the first one may have lost a space
        assert text.startswith(own, starts[at]) or piece == own.lstrip(" "), (own, piece)


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=100, deadline=None)
@given(text=st.text(LETTERS, max_size=20), place=st.floats(0, 1))
def test_an_answer_reads_as_the_rest_of_the_text_it_continues(
    kind: str, tokenizers: dict[str, Tokenizer], text: str, place: float
) -> None:
    """Wherever prompt and answer meet, within a character too: echo and answer are the text of all tokens."""
    tokenizer = tokenizers[kind]
    token_ids = tokenizer.encode(text, add_special_tokens=True)
    split = int(place * len(token_ids))
    prompt, answer = token_ids[:split], token_ids[split:]
    starts, whole = places_of(tokenizer, token_ids)
    detokenizer = Detokenizer(tokenizer)
    echo = "".join(map(detokenizer.append, prompt))
    rest = Detokenizer(tokenizer, after=prompt)
    assert echo + "".join(map(rest.append, answer)) + rest.flush() == whole
    if kind in SPELLED:
        places = TextPlaces(Detokenizer(tokenizer, after=prompt), tokenizer, len(echo))
        assert [places.advance(token_id)[0] for token_id in answer] == starts[split:]


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=150, deadline=None)
@given(text=st.text(LETTERS, max_size=20))
def test_starts_in_a_sent_text_leave_no_character_out(kind: str, tokenizers: dict[str, Tokenizer], text: str) -> None:
    tokenizer = tokenizers[kind]
    token_ids, starts = tokenizer.encode_with_starts(text, add_special_tokens=True)
    assert token_ids == tokenizer.encode(text, add_special_tokens=True)
    assert len(starts) == len(token_ids)
    assert starts == sorted(starts)
    assert all(0 <= start <= len(text) for start in starts)
    if kind == "byte_level":
        spelled = b"".join(map(tokenizer.token_bytes, token_ids))
        assert spelled.decode() == text
        before = itertools.accumulate((tokenizer.token_bytes(one) for one in token_ids[:-1]), initial=b"")
        assert starts == [len(spelling.decode(errors="ignore")) for spelling in before if token_ids]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("byte_fallback", "hö 🙂", [("<s>", ""), ("▁", ""), ("h", "h"), ("<0xC3>", ""), ("<0xB6>", "ö"), ("▁", " "),
                                    ("<0xF0>", ""), ("<0x9F>", ""), ("<0x99>", ""), ("<0x82>", "🙂")]),
        ("byte_fallback", "a<s>b", [("<s>", ""), ("▁", ""), ("a", "a"), ("<s>", "<s>"), ("b", "b")]),
        ("word_piece", "Hello  wörld", [("[CLS]", ""), ("hello", "Hello"), ("world", "  wörld"), ("[SEP]", "")]),
    ],
)  # fmt: skip
def test_starts_in_a_sent_text_follow_the_text_and_not_the_tokens_spelling(
    kind: str, text: str, expected: list[tuple[str, str]], tokenizers: dict[str, Tokenizer]
) -> None:
    token_ids, starts = tokenizers[kind].encode_with_starts(text, add_special_tokens=True)
    names = [tokenizers[kind].vocabulary_entry(token_id) for token_id in token_ids]
    assert list(zip(names, pieces(text, starts), strict=True)) == expected


@pytest.mark.parametrize(
    ("token_ids", "without", "expected"),
    [([1, 5, 6], [5, 6], 1), ([5, 6], [5, 6], 0), ([2, 5, 6, 3], [5, 6], 1), ([1, 2], [], 0), ([1, 7], [8], 0)],
)
def test_special_tokens_before_a_text_are_counted(token_ids: list[int], without: list[int], expected: int) -> None:
    assert num_leading(token_ids, without) == expected
