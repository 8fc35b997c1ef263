"""Classes of texts, of pairs and of tokens: equal to transformers' classifiers and to CrossEncoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trained_tokenizers
from pooling_checkpoints import Pooling, load, oracle, write_checkpoint
from sentence_transformers import CrossEncoder
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTokenClassification

from specserve.engine.config import PoolerConfig
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.tokenizer import load_tokenizer

TOLERANCE = 1e-5
CLASSIFIERS = [
    "bert",
    "roberta",
    "distilbert",
    "mpnet",
    "electra",
    "deberta-v2",
    "modernbert",
    "nomic_bert",
    "llama",
    "qwen3",
    "gemma3_text",
]
TOKEN_CLASSIFIERS = ["bert", "roberta", "distilbert", "modernbert", "qwen3"]
PAIRS = [("hello world", "one two three"), ("the fox", "the lazy dog jumps over it"), ("a", "b")]


@torch.inference_mode()
def logits(model: Any, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("num_labels", [1, 3])
def test_classes_equal_transformers(name: str, num_labels: int, tmp_path: Path, texts: list[list[int]]) -> None:
    folder = write_checkpoint(name, tmp_path, AutoModelForSequenceClassification, num_labels=num_labels)
    runner, model = load(folder), oracle(folder, AutoModelForSequenceClassification)
    assert runner.info.tasks == ("classify",)
    assert runner.info.labels == tuple(f"LABEL_{number}" for number in range(num_labels))
    pooling = Pooling(runner)
    for activate in (False, None):
        found = pooling(texts, use_activation=activate)
        for ids, values in zip(texts, found, strict=True):
            wanted = logits(model, ids)
            if activate is None:
                wanted = torch.sigmoid(wanted) if num_labels == 1 else torch.softmax(wanted, 0)
            np.testing.assert_allclose(values, wanted, atol=TOLERANCE * max(1, float(wanted.abs().max())), rtol=0)


@pytest.mark.parametrize("pooling_type", ["cls", "mean"])
def test_classifiers_of_modernbert_pool_as_configured(
    pooling_type: str, tmp_path: Path, texts: list[list[int]]
) -> None:
    folder = write_checkpoint(
        "modernbert", tmp_path, AutoModelForSequenceClassification, num_labels=2, classifier_pooling=pooling_type
    )
    model = oracle(folder, AutoModelForSequenceClassification)
    for ids, values in zip(texts, Pooling(load(folder))(texts, use_activation=False), strict=True):
        np.testing.assert_allclose(values, logits(model, ids), atol=TOLERANCE * 10, rtol=0)


@pytest.mark.parametrize("name", TOKEN_CLASSIFIERS)
def test_classes_of_tokens_equal_transformers(name: str, tmp_path: Path, texts: list[list[int]]) -> None:
    folder = write_checkpoint(name, tmp_path, AutoModelForTokenClassification, num_labels=4)
    model, runner = oracle(folder, AutoModelForTokenClassification), load(folder)
    assert runner.info.tasks == ("token_classify",)
    for ids, values in zip(texts, Pooling(runner)(texts), strict=True):
        np.testing.assert_allclose(values, torch.softmax(logits(model, ids), -1), atol=TOLERANCE, rtol=0)


def test_only_tagged_tokens_and_wanted_columns_are_returned(tmp_path: Path) -> None:
    folder = write_checkpoint("qwen3", tmp_path, AutoModelForTokenClassification, num_labels=4)
    ids = [5, 9, 6, 9, 7]
    (whole,) = Pooling(load(folder))([ids], use_activation=False)
    steps = PoolerConfig(pooling_type="step", step_tag_id=9, returned_token_ids=(3, 0))
    (found,) = Pooling(load(folder, pooler=steps))([ids], use_activation=False)
    assert np.array_equal(found, whole[[1, 3]][:, [3, 0]])


def test_several_classes_may_hold_at_once(tmp_path: Path, texts: list[list[int]]) -> None:
    folder = write_checkpoint(
        "bert",
        tmp_path,
        AutoModelForSequenceClassification,
        num_labels=3,
        problem_type="multi_label_classification",
        id2label={0: "a", 1: "b", 2: "c"},
    )
    runner, model = load(folder), oracle(folder, AutoModelForSequenceClassification)
    assert runner.info.labels == ("a", "b", "c")
    for ids, values in zip(texts, Pooling(runner)(texts), strict=True):
        np.testing.assert_allclose(values, torch.sigmoid(logits(model, ids)), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("activation", [None, "torch.nn.modules.linear.Identity"])
def test_pairs_score_as_in_cross_encoders(activation: str | None, tmp_path: Path) -> None:
    trained_tokenizers.word_piece(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    extra = {"sentence_transformers": {"activation_fn": activation}} if activation else {}
    write_checkpoint(
        "bert",
        tmp_path,
        AutoModelForSequenceClassification,
        extra=extra,
        num_labels=1,
        vocab_size=tokenizer.vocab_size,
    )
    wanted = CrossEncoder(str(tmp_path), device="cpu").predict(PAIRS)
    encoded = [tokenizer.encode_pair(*pair) for pair in PAIRS]
    pooling = Pooling(load(tmp_path))
    types = [kinds for _, kinds in encoded]
    found = pooling([ids for ids, _ in encoded], types=types)
    np.testing.assert_allclose(np.concatenate(found), wanted, atol=TOLERANCE, rtol=0)
    raw = np.concatenate(pooling([ids for ids, _ in encoded], types=types, use_activation=False))
    probable = np.concatenate(pooling([ids for ids, _ in encoded], types=types, use_activation=True))
    np.testing.assert_allclose(probable, 1 / (1 + np.exp(-raw)), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_decoder_scores_pairs_by_the_logits_of_two_tokens(dtype: str, tmp_path: Path, texts: list[list[int]]) -> None:
    trained_tokenizers.byte_level(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    write_checkpoint("qwen3", tmp_path, AutoModelForCausalLM, vocab_size=tokenizer.vocab_size)
    runner = load(tmp_path, dtype, hf_overrides={"classifier_from_token": ["n", "y"]})
    assert runner.info.is_decoder_reranker
    assert runner.info.tasks == ("classify",)
    assert len(runner.info.labels) == 1
    no, yes = (tokenizer.encode(token, add_special_tokens=False)[0] for token in "ny")
    model = oracle(tmp_path, AutoModelForCausalLM)
    for ids, values in zip(texts, Pooling(runner, token_budget=16)(texts), strict=True):
        last = logits(model, ids)[-1]
        wanted = torch.softmax(last[[no, yes]], 0)[1:]  # as Qwen3-Reranker defines it
        np.testing.assert_allclose(values, wanted, atol=TOLERANCE if dtype == "float32" else 0.1, rtol=0)


def test_logit_score_folders_score_as_in_cross_encoders(tmp_path: Path) -> None:
    trained_tokenizers.byte_level(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    write_checkpoint("qwen3", tmp_path, AutoModelForCausalLM, vocab_size=tokenizer.vocab_size)
    kinds = ["base.modules.transformer.Transformer", "cross_encoder.modules.logit_score.LogitScore"]
    listed = [
        {"idx": at, "name": str(at), "path": ["", "1_LogitScore"][at], "type": f"sentence_transformers.{kind}"}
        for at, kind in enumerate(kinds)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    (tmp_path / "1_LogitScore").mkdir()
    (tmp_path / "1_LogitScore/config.json").write_text('{"true_token_id": 40, "false_token_id": 41}')
    ids = tokenizer.encode("hello world", add_special_tokens=False)
    (found,) = Pooling(load(tmp_path))([ids], use_activation=False)
    last = logits(oracle(tmp_path, AutoModelForCausalLM), ids)[-1]
    np.testing.assert_allclose(found, [float(last[40] - last[41])], atol=1e-4, rtol=0)


def test_a_generator_without_a_classifier_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = write_checkpoint("qwen3", tmp_path, AutoModelForCausalLM)
    with pytest.raises(UnsupportedModelError, match="classifier_from_token"):
        load(folder, convert="classify")
