"""The text that the demo encoders learn from, their tokenizer, and a training run in miniature."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder, SentenceTransformer

from specserve.handlers.demo.training.encoders.embedder import contrast
from specserve.handlers.demo.training.encoders.examples import kept_out, stream
from specserve.handlers.demo.training.encoders.pieces import make_tokenizer
from specserve.handlers.demo.training.encoders.recipe import EMBEDDER, RERANKER, WORDS, Shape
from specserve.handlers.demo.training.encoders.reranker import NUM_CANDIDATES, candidates
from specserve.handlers.demo.training.encoders.synonyms import SYNONYMS, reworded
from specserve.handlers.demo.training.encoders.train import train

SMALL = Shape(vocabulary=600, hidden=32, layers=1, heads=2, feed_forward=32, positions=64)
TOKENIZER = make_tokenizer(SMALL, 400)


def test_the_text_is_the_same_for_the_same_seed() -> None:
    first, second, other = (list(islice(stream(seed), 300)) for seed in (5, 5, 6))
    assert first == second
    assert first != other


def test_no_counterexample_says_what_the_right_passage_says() -> None:
    for example in islice(stream(3), 5000):
        assert example.query
        assert example.right.text
        assert all(wrong.text != example.right.text for wrong in example.wrong if wrong.key != example.right.key)


@pytest.mark.parametrize("topic", ["tables", "lines", "definitions", "words"])
def test_kept_out_wordings_are_never_trained(topic: str) -> None:
    trained = {example.query for example in islice(stream(3), 20_000)}
    assert trained.isdisjoint(example.query for example in kept_out(topic, 60, 1))


def test_words_are_exchanged_for_words_of_the_same_meaning() -> None:
    text = reworded("Buy a big car", random.Random(1), share=1.0)
    assert text.split()[0].lower() in SYNONYMS["buy"]
    assert text[0].isupper()
    assert reworded("Xyzzy of Big Ben", random.Random(1), share=1.0) == "Xyzzy of Big Ben"


@given(text=st.text(min_size=1, max_size=40))
def test_no_text_is_unknown_to_the_tokenizer(text: str) -> None:
    """Every byte of the normalised text is there again, besides the mark before each word."""
    core = TOKENIZER.backend_tokenizer
    ids = core.encode(text, add_special_tokens=False).ids
    wanted = "".join(core.normalizer.normalize_str(text).split())
    assert "".join(core.decode(ids, skip_special_tokens=False).split()) == wanted


def test_a_pair_has_two_segments() -> None:
    found = TOKENIZER("a dog", "the cat")
    assert TOKENIZER.decode(found["input_ids"]) == "[CLS] a dog[SEP] the cat[SEP]"
    assert set(found["token_type_ids"]) == {0, 1}


def test_passages_that_say_the_same_are_no_counterexamples() -> None:
    query, other = torch.eye(32)[:2]
    alone = contrast(query[None], torch.stack([query]), torch.tensor([[True]]))
    beside = contrast(query[None], torch.stack([query, query]), torch.tensor([[True, True]]))
    against = contrast(query[None], torch.stack([query, query]), torch.tensor([[True, False]]))
    far = contrast(query[None], torch.stack([query, other]), torch.tensor([[True, False]]))
    assert alone.item() == pytest.approx(beside.item(), abs=1e-6)
    assert against.item() > 0.1 > far.item()


def test_the_right_passage_is_the_first_of_the_candidates() -> None:
    examples = list(islice(stream(4), 50))
    for example in examples:
        found = candidates(example, examples, random.Random(1))
        assert found[0] == example.right.text
        assert len(found) == NUM_CANDIDATES


def test_a_short_training_writes_checkpoints_that_load(tmp_path: Path) -> None:
    courses = (replace(WORDS, steps=3), replace(EMBEDDER, steps=3, batch=8), replace(RERANKER, steps=2, batch=4))
    train(SMALL, courses, tmp_path, num_examples=400)
    vector = SentenceTransformer(str(tmp_path / "embedder"), device="cpu").encode("Hello")
    assert vector.shape == (SMALL.hidden,)
    score = CrossEncoder(str(tmp_path / "reranker"), device="cpu").predict([("Hello", "you")])
    assert 0 < float(score[0]) < 1
    assert "embedder: 3 steps" in (tmp_path / "training.log").read_text(encoding="utf-8")
