"""The bytes of tokens in chat log probabilities spell the answer, over any text and any tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_tokenizers import KINDS

from specserve.engine.api import Tokenizer, TokenLogprob, TokenLogprobs
from specserve.engine.detokenizer import Detokenizer
from specserve.engine.tokenizer import load_tokenizer
from specserve.handlers.openai.reply import TokenNames, TokenWriter

SPELLED = ["byte_level", "byte_fallback"]
ANY_TEXT = st.text(max_size=24) | st.text("ab  öß你好世🙂👨‍👩‍👧e\u0301\n", max_size=24)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folders: dict[str, Path] = {name: KINDS[name](tmp_path_factory.mktemp(name)) for name in SPELLED}
    return {name: load_tokenizer(folder) for name, folder in folders.items()}


def spelled(tokenizer: Tokenizer, token_ids: list[int], *, skip: bool = True, continues: bool = False) -> bytes:
    names = TokenNames(tokenizer, as_ids=False)
    writer = TokenWriter.of(names, skip_special_tokens=skip, continues_text=continues)
    described = [writer.describe(TokenLogprobs(TokenLogprob(token_id, -1.0, 1))) for token_id in token_ids]
    return bytes(byte for token in described for byte in token.bytes or [])


def told(tokenizer: Tokenizer, token_ids: list[int], *, skip: bool = True, after: list[int] | None = None) -> str:
    """The text that the engine gives for these tokens."""
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip, after=after or ())
    return "".join(map(detokenizer.append, token_ids)) + detokenizer.flush()


@pytest.mark.parametrize("kind", SPELLED)
@settings(max_examples=200, deadline=None)
@given(text=ANY_TEXT, skip=st.booleans())
def test_bytes_of_an_answers_tokens_are_its_text(
    kind: str, tokenizers: dict[str, Tokenizer], text: str, skip: bool
) -> None:
    tokenizer = tokenizers[kind]
    token_ids = [*tokenizer.encode(text, add_special_tokens=True), 2]  # an end token
    assert spelled(tokenizer, token_ids, skip=skip).decode() == told(tokenizer, token_ids, skip=skip)


@pytest.mark.parametrize("kind", SPELLED)
@settings(max_examples=200, deadline=None)
@given(text=ANY_TEXT, split=st.integers(0, 24))
def test_bytes_of_a_continuation_are_the_rest_of_its_text(
    kind: str, tokenizers: dict[str, Tokenizer], text: str, split: int
) -> None:
    tokenizer = tokenizers[kind]
    token_ids = tokenizer.encode("a" + text, add_special_tokens=False)
    before = next(at for at in range(len(token_ids)) if told(tokenizer, token_ids[: at + 1]).strip()) + 1
    split = min(before + split, len(token_ids))
    prompt, answer = token_ids[:split], token_ids[split:]
    assert spelled(tokenizer, prompt) + spelled(tokenizer, answer, continues=True) == ("a" + text).encode()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_bytes_that_are_no_text_read_as_the_answer_does(tokenizers: dict[str, Tokenizer], data: Any) -> None:
    """Whatever a model writes: a client that decodes the bytes sees what the server sent as text."""
    tokenizer = tokenizers["byte_level"]
    token_ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=24))
    assert spelled(tokenizer, token_ids).decode("utf-8", "replace") == told(tokenizer, token_ids)


def test_tokens_that_the_text_leaves_out_have_no_bytes(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["byte_level"]
    (end,) = tokenizer.encode("<|im_end|>", add_special_tokens=False)
    token = TokenLogprobs(TokenLogprob(end, -1.0, 1), (TokenLogprob(end, -1.0, 1), TokenLogprob(40, -2.0, 2)))
    for skip, expected in ((True, None), (False, list(b"<|im_end|>"))):
        writer = TokenWriter.of(TokenNames(tokenizer, False), skip_special_tokens=skip, continues_text=False)
        found = writer.describe(token)
        assert (found.bytes, found.top_logprobs[0].bytes) == (expected, expected)
        assert found.top_logprobs[1].bytes == list(tokenizer.token_bytes(40))
        assert found.token == "<|im_end|>"
