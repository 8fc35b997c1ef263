"""Texts encoded piece by piece, with pieces remembered, against the library that encodes them whole."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers
from trained_tokenizers import CORPUS, TEXTS

from specserve.engine.segments import SegmentEncoder, encode_alone, special_ids_of

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|im|>", "<|im|>>"]
"""Two of them begin alike: the longer one wins."""
TEXT = st.lists(st.sampled_from([*SPECIAL, *TEXTS, "<tool>", "user\n", " ", "<|im", "|>"]) | st.text(max_size=12))
PRE_TOKENIZERS: dict[str, Callable[[], Any]] = {
    "byte level": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "byte level with a space in front": lambda: pre_tokenizers.ByteLevel(add_prefix_space=True),
    "digits, then byte level": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "metaspace everywhere": lambda: pre_tokenizers.Metaspace(prepend_scheme="always"),
}


def trained(pre_tokenizer: Any, normalizer: Any = None, added: tuple[AddedToken, ...] = ()) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=SPECIAL
        ),
    )
    backend.add_tokens(list(added))
    return backend


def encoder_of(backend: Tokenizer, **options: Any) -> SegmentEncoder:
    special_ids = special_ids_of(backend)
    assert special_ids is not None
    return SegmentEncoder(backend, special_ids, **options)


def whole(backend: Tokenizer, text: str) -> list[int]:
    ids: list[int] = backend.encode(text, add_special_tokens=False).ids
    return ids


@pytest.fixture(scope="module", params=PRE_TOKENIZERS)
def backend(request: pytest.FixtureRequest) -> Tokenizer:
    tool = AddedToken("<tool>", normalized=True)  # looked for within the pieces
    return trained(PRE_TOKENIZERS[request.param](), normalizers.NFC(), (tool,))


@given(parts=TEXT)
def test_any_text_becomes_what_it_is_as_a_whole(backend: Tokenizer, parts: list[str]) -> None:
    encoder, text = encoder_of(backend), "".join(parts)
    assert encoder.encode(text) == whole(backend, text)
    assert encoder.encode(text) == whole(backend, text), "remembered"


@given(parts=TEXT, size=st.integers(0, 30))
def test_forgetting_changes_nothing(backend: Tokenizer, parts: list[str], size: int) -> None:
    encoder = encoder_of(backend, max_cached_ids=size)
    for end in range(len(parts) + 1):
        text = "<|im_start|>".join(parts[:end])
        assert encoder.encode(text) == whole(backend, text)
        assert encoder.num_cached_ids <= size


def test_a_longer_conversation_is_encoded_from_its_new_message_on() -> None:
    class Counting:
        def __init__(self) -> None:
            self.backend = trained(pre_tokenizers.ByteLevel())
            self.seen: list[str] = []

        def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
            self.seen += texts
            return self.backend.encode_batch_fast(texts, **options)

    counting = Counting()
    special_ids = special_ids_of(counting.backend)
    assert special_ids is not None
    encoder = SegmentEncoder(counting, special_ids)  # type: ignore[arg-type]
    first = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>"
    encoder.encode(first)
    counting.seen.clear()
    encoder.encode(first + "assistant\nhello world<|im_end|>")
    assert counting.seen == ["assistant\nhello world"]


def test_threads_may_encode_at_once() -> None:
    backend = trained(pre_tokenizers.ByteLevel())
    encoder = encoder_of(backend, max_cached_ids=50)
    texts = ["<|im_start|>".join(TEXTS[at:] + TEXTS[:at]) for at in range(len(TEXTS))] * 20
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(encoder.encode, texts)) == [whole(backend, text) for text in texts]


@pytest.mark.parametrize("property_name", ["lstrip", "rstrip", "single_word"])
def test_tokens_that_touch_their_neighbours_forbid_cutting(property_name: str) -> None:
    token = AddedToken("<mask>", normalized=False, special=True, **{property_name: True})
    assert special_ids_of(trained(pre_tokenizers.ByteLevel(), added=(token,))) is None


def test_a_prefix_at_the_beginning_of_the_text_only_forbids_cutting() -> None:
    backend = trained(pre_tokenizers.Metaspace(prepend_scheme="first"))
    assert special_ids_of(backend) is None
    assert whole(backend, "<|im|>hello")[1:] != whole(backend, "hello"), "for this reason"


def test_special_tokens_read_as_text_forbid_cutting() -> None:
    backend = trained(pre_tokenizers.ByteLevel())
    backend.encode_special_tokens = True
    assert special_ids_of(backend) is None


def test_a_vocabulary_without_special_tokens_is_not_cut() -> None:
    backend = Tokenizer(models.BPE())
    backend.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=100))
    assert special_ids_of(backend) is None


@given(text=st.text(max_size=40))
def test_alone_a_text_becomes_what_the_plain_call_makes_of_it(backend: Tokenizer, text: str) -> None:
    assert encode_alone(backend, text) == whole(backend, text)


def test_the_demo_model_is_cut_at_its_chat_tokens() -> None:
    folder = Path(__file__).parents[2] / "handlers" / "demo" / "assistant"
    special_ids = special_ids_of(Tokenizer.from_file(str(folder / "tokenizer.json")))
    assert special_ids is not None
    assert {"<|im_start|>", "<|im_end|>", "<tool_call>"} <= special_ids.keys()
