"""Streamed text equals the whole, whatever the tokens; stop strings are found wherever the pieces end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from trained_tokenizers import KINDS, TEXTS

from specserve.engine.api import Tokenizer
from specserve.engine.detokenizer import CheckedText, Detokenizer, StopChecker
from specserve.engine.tokenizer import load_tokenizer

FAMILY = "👨‍👩‍👧 e\u0301 你好 ก็ ❤️ 🇩🇪"


def load(kind: str, folders: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(KINDS[kind](folders.mktemp(kind)))


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load("byte_level", tmp_path_factory)


@pytest.fixture(scope="module")
def byte_fallback(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load("byte_fallback", tmp_path_factory)


def stream(tokenizer: Tokenizer, ids: Sequence[int], *, skip_special_tokens: bool = True) -> list[str]:
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip_special_tokens)
    return [*map(detokenizer.append, ids), detokenizer.flush()]


@given(text=st.text(max_size=40) | st.sampled_from([*TEXTS, FAMILY]), skip_special_tokens=st.booleans())
def test_any_text_streams_to_the_whole(tokenizer: Tokenizer, text: str, skip_special_tokens: bool) -> None:
    ids = tokenizer.encode(text, add_special_tokens=True)
    pieces = stream(tokenizer, ids, skip_special_tokens=skip_special_tokens)
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)


def has_broken_run(tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
    """Whether single-byte tokens in a row are not UTF-8, though some of their characters are complete."""
    spelling = tokenizer.spelling
    if spelling is None or spelling.byte_ids is None:
        return False
    run, runs = b"", []
    for token_id in [*ids, 5_000_000]:
        if token_id in spelling.byte_ids:
            run += tokenizer.token_bytes(token_id)
        elif token_id == 5_000_000 or tokenizer.token_bytes(token_id):
            runs.append(run)
            run = b""
    return any("\ufffd" in run.decode("utf-8", "replace") for run in runs)


@given(data=st.data(), skip_special_tokens=st.booleans())
def test_any_tokens_stream_to_the_whole(tokenizer: Tokenizer, data: st.DataObject, skip_special_tokens: bool) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 3), max_size=25))
    text = "".join(stream(tokenizer, ids, skip_special_tokens=skip_special_tokens))
    special = tokenizer.spelling.special_ids if tokenizer.spelling and skip_special_tokens else ()
    if not has_broken_run(tokenizer, [token_id for token_id in ids if token_id not in special]):
        assert text == tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)


@given(data=st.data(), skip_special_tokens=st.booleans())
def test_a_text_that_goes_on_reads_as_one(tokenizer: Tokenizer, data: st.DataObject, skip_special_tokens: bool) -> None:
    """Wherever it is taken up again: within a character, a run of bytes, or before a word."""
    text = data.draw(st.text(max_size=12) | st.sampled_from([*TEXTS, FAMILY]))
    ids = tokenizer.encode(text * data.draw(st.integers(1, 4)), add_special_tokens=True)
    split = data.draw(st.integers(0, len(ids)))
    before = Detokenizer(tokenizer, skip_special_tokens=skip_special_tokens)
    after = Detokenizer(tokenizer, skip_special_tokens=skip_special_tokens, after=ids[:split])
    pieces = [*map(before.append, ids[:split]), *map(after.append, ids[split:]), after.flush()]
    assert "".join(pieces) == "".join(stream(tokenizer, ids, skip_special_tokens=skip_special_tokens))


@given(data=st.binary(max_size=30))
@example(data=b"\xf0\x9f\x98A\xe4\xbd\xed\xa0\x80\xf5")
def test_any_bytes_stream_to_the_whole(byte_level: Tokenizer, data: bytes) -> None:
    id_of = {byte_level.token_bytes(i): i for i in range(3, byte_level.vocab_size)}
    ids = [id_of[bytes([byte])] for byte in data]
    assert "".join(stream(byte_level, ids)) == byte_level.decode(ids) == data.decode("utf-8", "replace")


def test_incomplete_characters_are_held_back(byte_level: Tokenizer) -> None:
    ids = byte_level.encode("𐍈", add_special_tokens=False)
    assert len(ids) > 2
    assert stream(byte_level, ids) == [""] * (len(ids) - 1) + ["𐍈", ""]
    assert stream(byte_level, ids[:-1])[-1] == "\ufffd"


def test_characters_spelled_in_bytes_appear_when_complete(byte_fallback: Tokenizer) -> None:
    ids = byte_fallback.encode("你好", add_special_tokens=False)
    assert stream(byte_fallback, ids)[-7:] == ["", "", "你", "", "", "好", ""]


def byte_tokens(tokenizer: Tokenizer, data: bytes) -> list[int]:
    return [token_id for byte in data for token_id in [3 + byte] if tokenizer.token_bytes(token_id)]


@pytest.mark.parametrize("data", [b"\xe4\xbd", b"\xff\xff", b"\xff\xff\xff\xff\xff\xe4\xbd\xa0", b"\x80"])
def test_a_run_that_is_never_a_character_is_replaced_byte_by_byte(byte_fallback: Tokenizer, data: bytes) -> None:
    word = byte_fallback.encode("one", add_special_tokens=False)
    ids = word + byte_tokens(byte_fallback, data) + word
    assert "".join(stream(byte_fallback, ids)) == byte_fallback.decode(ids)


def test_complete_characters_of_a_broken_run_survive(byte_fallback: Tokenizer) -> None:
    ids = byte_tokens(byte_fallback, "你".encode() + b"\xff")
    assert "".join(stream(byte_fallback, ids)) == "你\ufffd"


def test_special_tokens_appear_only_on_demand(byte_level: Tokenizer) -> None:
    ids = byte_level.encode("a<|im_end|>b<think>", add_special_tokens=False)
    assert "".join(stream(byte_level, ids)) == "ab<think>"
    assert "".join(stream(byte_level, ids, skip_special_tokens=False)) == "a<|im_end|>b<think>"


def test_skipped_tokens_do_not_pile_up(tokenizer: Tokenizer) -> None:
    special = tokenizer.encode("<|im_start|></s>", add_special_tokens=True)
    word = tokenizer.encode("one", add_special_tokens=False)
    ids = word + special * 50 + word
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


def check(stop: Sequence[str], pieces: Sequence[str], *, include: bool = False) -> CheckedText:
    checker = StopChecker(stop, include_in_output=include)
    text = ""
    for piece in pieces:
        checked = checker.append(piece)
        text += checked.text
        if checked.stop is not None:
            return CheckedText(text, checked.stop)
    return CheckedText(text + checker.flush())


def expected(stop: Sequence[str], text: str, include: bool) -> CheckedText:
    """The definition, letter by letter: the first end at which a stop string is complete, the longest one."""
    for end in range(1, len(text) + 1):
        complete = [s for s in stop if text[:end].endswith(s)]
        if complete:
            longest = max(complete, key=len)
            return CheckedText(text[:end] if include else text[: end - len(longest)], longest)
    return CheckedText(text)


LETTERS = st.text(alphabet="ab\n", max_size=20)


@given(
    stop=st.lists(st.text(alphabet="ab\n", min_size=1, max_size=5), max_size=4),
    pieces=st.lists(LETTERS, max_size=8),
    include=st.booleans(),
)
@example(stop=["aab"], pieces=["aa", "ab"], include=False)
@example(stop=["abcd", "bc"], pieces=["ab", "cd"], include=False)
def test_any_split_finds_the_same_stop_string(stop: list[str], pieces: list[str], include: bool) -> None:
    assert check(stop, pieces, include=include) == expected(stop, "".join(pieces), include)


@given(stop=st.lists(st.text(alphabet="ab", min_size=1, max_size=5), max_size=3), text=LETTERS)
def test_no_more_is_held_back_than_may_become_a_stop_string(stop: list[str], text: str) -> None:
    checker = StopChecker(stop)
    shown = ""
    for letter in text:
        checked = checker.append(letter)
        if checked.stop is not None:
            return
        shown += checked.text
    held = text.removeprefix(shown)
    assert shown + held == text
    prefixes = [end for s in stop for n in range(1, len(s)) if text.endswith(end := s[:n])]
    assert held == max(prefixes, key=len, default="")
    assert checker.flush() == held


def test_a_stop_string_that_may_not_stop_yet_passes() -> None:
    checker = StopChecker(["END"])
    assert checker.append("a END b", may_stop=False) == CheckedText("a END b")
    assert checker.append(" E", may_stop=False) == CheckedText(" ")
    assert checker.append("ND", may_stop=True) == CheckedText("", "END")


def test_a_stop_string_inside_held_text_does_not_stop_late() -> None:
    checker = StopChecker(["abcd", "bc"])
    assert checker.append("abc", may_stop=False) == CheckedText("")
    assert checker.append("x") == CheckedText("abcx")


def test_a_space_that_a_grammar_decided_on_is_kept(byte_fallback: Tokenizer) -> None:
    space_word = next(
        token_id
        for token_id in range(byte_fallback.vocab_size)
        if byte_fallback.token_bytes(token_id).startswith(b" ") and len(byte_fallback.token_bytes(token_id)) > 1
    )
    spelled = byte_fallback.token_bytes(space_word).decode()
    assert Detokenizer(byte_fallback).append(space_word) == spelled[1:]
    assert Detokenizer(byte_fallback, strips_spaces=False).append(space_word) == spelled
