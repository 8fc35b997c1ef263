"""Folders of sentence-transformers give what sentence-transformers gives, and say what it reads in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pooling_checkpoints import Pooling, load, write_checkpoint, write_sentence_folder
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from transformers import AutoModelForCausalLM

from specserve.engine.config import PoolerConfig
from specserve.engine.errors import ModelLoadError, UnsupportedModelError
from specserve.engine.model_folder import local_model_folder
from specserve.engine.params import PoolingTask
from specserve.engine.tokenizer import load_tokenizer

TEXTS = ["hello world", "The quick brown fox jumps over the lazy dog", "one two three", "Straße"]
TOLERANCE = 1e-5
TANH = {"in_features": 64, "out_features": 48, "activation_function": "torch.nn.modules.activation.Tanh"}
PLAIN = {
    "in_features": 48,
    "out_features": 24,
    "bias": False,
    "activation_function": "torch.nn.modules.linear.Identity",
}
OLD_FLAGS = ["cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]

Modules = list[tuple[str, dict[str, Any]]]
CHAINS: dict[str, tuple[Modules, int]] = {
    **{flag: ([("Pooling", {"word_embedding_dimension": 64, f"pooling_mode_{flag}": True})], 64) for flag in OLD_FLAGS},
    "nothing said": ([("Pooling", {"word_embedding_dimension": 64})], 64),
    "present names": ([("Pooling", {"embedding_dimension": 64, "pooling_mode": "lasttoken"})], 64),
    "several": (
        [
            (
                "Pooling",
                {"word_embedding_dimension": 64, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            )
        ],
        128,
    ),
    "normalized": ([("Pooling", {"embedding_dimension": 64, "pooling_mode": "mean"}), ("Normalize", {})], 64),
    "dense": (
        [
            ("Pooling", {"embedding_dimension": 64, "pooling_mode": "cls"}),
            ("Dense", TANH),
            ("Dense", PLAIN),
            ("Normalize", {}),
        ],
        24,
    ),
    "layer norm": (
        [("Pooling", {"embedding_dimension": 64, "pooling_mode": "mean"}), ("LayerNorm", {"dimension": 64})],
        64,
    ),
}


def encode(folder: Path, texts: list[str] = TEXTS) -> list[list[int]]:
    return load_tokenizer(folder).encode_batch(texts, add_special_tokens=True)


@pytest.mark.parametrize("chain", CHAINS)
def test_embeddings_equal_sentence_transformers(chain: str, tmp_path: Path) -> None:
    modules, size = CHAINS[chain]
    folder = write_sentence_folder(tmp_path, modules)
    wanted = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    runner = load(folder)
    assert runner.info.embedding_size == size
    for values, truth in zip(Pooling(runner)(encode(folder)), wanted, strict=True):
        np.testing.assert_allclose(values, truth, atol=TOLERANCE * max(1, abs(truth).max()), rtol=0)


@pytest.mark.parametrize("name", ["0_Transformer", "0_BERT"])
def test_the_transformer_may_have_a_folder_of_its_own(name: str, tmp_path: Path) -> None:
    folder = write_sentence_folder(tmp_path, CHAINS["dense"][0])
    (folder / name).mkdir()
    for file in list(folder.iterdir()):
        if file.is_file() and file.name not in ("modules.json", "config_sentence_transformers.json"):
            file.rename(folder / name / file.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = name
    (folder / "modules.json").write_text(json.dumps(modules))
    assert local_model_folder(str(folder)) == folder
    wanted = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    runner = load(folder)
    assert runner.info.path == str(folder / name)  # where the API process finds the tokenizer
    assert runner.info.max_model_len == 128
    found = Pooling(runner)(encode(folder / name))
    for values, truth in zip(found, wanted, strict=True):
        np.testing.assert_allclose(values, truth, atol=TOLERANCE * max(1, abs(truth).max()), rtol=0)


def test_matryoshka_embeddings_are_cut_and_have_length_one_again(tmp_path: Path) -> None:
    folder = write_sentence_folder(tmp_path, CHAINS["normalized"][0])
    runner = load(folder, hf_overrides={"matryoshka_dimensions": [32, 8]})
    assert runner.info.matryoshka_dimensions == (8, 32)
    found = Pooling(runner)(encode(folder), dimensions=8)
    wanted = SentenceTransformer(str(folder), device="cpu", truncate_dim=8).encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(np.stack(found), wanted, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("wanted", "has_length_one"), [(True, True), (False, False)])
def test_requests_choose_whether_embeddings_are_normalized(wanted: bool, has_length_one: bool, tmp_path: Path) -> None:
    folder = write_sentence_folder(tmp_path, CHAINS["normalized" if not wanted else "mean_tokens"][0])
    for values in Pooling(load(folder))(encode(folder), use_activation=wanted):
        assert (abs(np.linalg.norm(values) - 1) < 1e-5) == has_length_one


def test_the_operator_chooses_another_pooling(tmp_path: Path) -> None:
    folder = write_sentence_folder(tmp_path / "mean", CHAINS["mean_tokens"][0])
    other = shutil.copytree(folder, tmp_path / "cls")
    (other / "1_Pooling" / "config.json").write_text(json.dumps(CHAINS["cls_token"][0][0][1]))
    found = Pooling(load(folder, pooler=PoolerConfig(pooling_type="cls")))(encode(folder))
    wanted = SentenceTransformer(str(other), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(np.stack(found), wanted, atol=TOLERANCE * 10, rtol=0)


def test_what_the_folder_says_reaches_the_api_process(tmp_path: Path) -> None:
    folder = write_sentence_folder(
        tmp_path,
        CHAINS["normalized"][0],
        prompts={"query": "query: ", "document": ""},
        default_prompt_name="query",
        similarity_fn_name="dot",
    )
    info = load(folder).info
    assert info.tasks == ("embed", "token_embed")
    assert info.prompts == {"query": "query: ", "document": ""}
    assert info.default_prompt_name == "query"
    assert info.similarity == "dot"
    assert info.max_model_len == 128
    assert not info.is_generative


def test_late_interaction_gives_a_vector_of_length_one_for_each_token(tmp_path: Path) -> None:
    dense = {**PLAIN, "in_features": 64}
    folder = write_sentence_folder(
        tmp_path, [("Dense", dense)], query_prefix="[CLS]", document_prefix="[SEP]", query_length=32, skiplist_words=[]
    )
    runner = load(folder)
    info = runner.info
    assert info.tasks == ("token_embed",)
    assert info.is_late_interaction
    assert (info.max_query_tokens, info.embedding_size) == (32, 24)
    tokenizer = load_tokenizer(folder)
    assert info.query_prefix_ids == tuple(tokenizer.encode("[CLS]", add_special_tokens=False))
    wanted = MultiVectorEncoder(str(folder), device="cpu").encode_document(TEXTS, convert_to_numpy=True)
    ids = [[one[0], *info.document_prefix_ids, *one[1:]] for one in encode(folder)]
    for values, truth in zip(Pooling(runner)(ids), wanted, strict=True):
        np.testing.assert_allclose(values, truth, atol=TOLERANCE, rtol=0)


def test_bare_models_are_pooled_as_sentence_transformers_does(tmp_path: Path) -> None:
    folder = write_sentence_folder(tmp_path, CHAINS["mean_tokens"][0])
    for file in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / file).unlink()
    wanted = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(np.stack(Pooling(load(folder))(encode(folder))), wanted, atol=TOLERANCE, rtol=0)


def test_a_generating_checkpoint_is_made_into_an_embedder(tmp_path: Path) -> None:
    folder = write_checkpoint("qwen3", tmp_path, AutoModelForCausalLM)
    info = load(folder, runner="pooling").info
    assert info.tasks == ("embed", "token_embed")
    assert info.embedding_size == 64


def test_what_is_missing_or_unknown_stops_the_start(tmp_path: Path) -> None:
    folder = write_sentence_folder(tmp_path, CHAINS["dense"][0])
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match="safetensors"):
        load(folder)
    (folder / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "x.Transformer"}, {"path": "1", "type": "x.LSTM"}]'
    )
    with pytest.raises(UnsupportedModelError, match=r"x\.LSTM"):
        load(folder)
    (folder / "modules.json").write_text("{}")
    with pytest.raises(ModelLoadError, match="not a list"):
        load(folder)


def test_a_text_that_was_cut_into_no_chunks_is_an_encoders(tmp_path: Path) -> None:
    """A token budget below the length of a text is refused at the start, not met by a text that never runs."""
    folder = write_sentence_folder(tmp_path, CHAINS["mean_tokens"][0])
    pooling = Pooling(load(folder), token_budget=128)
    ids = [[5] * 100, [6] * 100, [7] * 28, [8]]
    assert len(pooling(ids, PoolingTask.EMBED)) == 4
    assert pooling.num_steps == 3
