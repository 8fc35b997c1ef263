"""Late interaction over real encoders: scores equal sentence-transformers' own, however a folder says what it wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trained_tokenizers
from asking_pooling import answer
from fake_pooling import FakePooling
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from transformers import AutoConfig, AutoModel

from specserve.engine.api import ModelInfo, PoolingOutput, PoolingRequest
from specserve.engine.config import EngineConfig, ModelConfig
from specserve.engine.core import EngineCore
from specserve.engine.models import fused_encoder
from specserve.engine.runner.pooling_runner import PoolingRunner
from specserve.engine.scheduler import Scheduler
from specserve.engine.tokenizer import load_tokenizer

QUERIES = ["hello world", "one, two", "the lazy dog jumps over the quick brown fox " * 3]
DOCUMENTS = ["The quick brown fox jumps, and it doesn't stop there.", "hello; hello!", "Ein Bär läuft über die Straße."]
SIZE, PROJECTED = 64, 24


class RealPooling(FakePooling):
    """An engine in this process, over a folder."""

    def __init__(self, folder: Path, dtype: str = "float32") -> None:
        super().__init__()
        config = EngineConfig(model=ModelConfig(path=str(folder), dtype=dtype, device="cpu"))
        self.runner = PoolingRunner.load(config, lambda phase, done: None)
        self.tokenizer = load_tokenizer(folder)
        self.core = EngineCore(
            Scheduler(
                self.runner.make_cache(enable_prefix_caching=False),
                max_num_seqs=8,
                max_num_batched_tokens=self.runner.max_num_batched_tokens,
                max_model_len=self.runner.info.max_model_len,
                computes_whole_prompts=True,
            ),
            self.runner,
            reads_all_hidden=self.runner.reads_all_hidden,
        )

    @property
    def model(self) -> ModelInfo:
        return self.runner.info

    async def pool(self, requests: Sequence[PoolingRequest]) -> list[PoolingOutput]:
        self.calls.append(list(requests))
        assert self.core.pool(requests) == []
        found = {}
        while self.core.has_requests:
            for progress in self.core.step():
                assert progress.pooled is not None, progress.error
                found[progress.request_id] = progress.pooled.unpack()
        return [
            PoolingOutput(
                request_id=one.request_id, data=found[one.request_id], num_prompt_tokens=len(one.prompt_token_ids)
            )
            for one in requests
        ]


def write_encoder(folder: Path, name: str) -> None:
    trained_tokenizers.word_piece(folder)
    torch.manual_seed(0)
    sizes = {
        "hidden_size": SIZE,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 130,
    }
    more = {"local_attention": 8, "cls_token_id": 2, "sep_token_id": 3} if name == "modernbert" else {}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = AutoConfig.for_model(name, vocab_size=load_tokenizer(folder).vocab_size, **sizes, **ids, **more)
    model = AutoModel.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0.0, 0.15)
    model.save_pretrained(folder)


def dump(file: Path, value: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value))


def pylate(folder: Path, name: str, **said: Any) -> None:
    write_encoder(folder, name)
    modules = [("", "sentence_transformers.models.Transformer"), ("1_Dense", "pylate.models.Dense.Dense")]
    listed = [{"idx": at, "name": str(at), "path": path, "type": kind} for at, (path, kind) in enumerate(modules)]
    dump(folder / "modules.json", listed)
    dense = {"in_features": SIZE, "out_features": PROJECTED, "bias": False}
    dump(folder / "1_Dense" / "config.json", dense | {"activation_function": "torch.nn.modules.linear.Identity"})
    weight = torch.randn(PROJECTED, SIZE, generator=torch.Generator().manual_seed(1))
    save_file({"linear.weight": weight}, folder / "1_Dense" / "model.safetensors")
    dump(folder / "sentence_bert_config.json", {"max_seq_length": 100, "do_lower_case": False})
    about = {"model_type": "ColBERT", "query_prefix": "[MASK]", "document_prefix": "[SEP]", "query_length": 16}
    dump(folder / "config_sentence_transformers.json", about | said)


def stanford(folder: Path, name: str, **said: Any) -> None:
    write_encoder(folder, name)
    weights = {f"bert.{key}": value for key, value in load_file(folder / "model.safetensors").items()}
    weight = torch.randn(PROJECTED, SIZE, generator=torch.Generator().manual_seed(1))
    save_file(weights | {"linear.weight": weight}, folder / "model.safetensors", metadata={"format": "pt"})
    file = folder / "config.json"
    dump(file, json.loads(file.read_text()) | {"architectures": ["HF_ColBERT"]})
    about = {"query_token_id": "[MASK]", "doc_token_id": "[SEP]", "query_maxlen": 16, "doc_maxlen": 60}
    dump(folder / "artifact.metadata", about | said)


def native(folder: Path, name: str, **said: Any) -> None:
    pylate(folder, name, **said)
    MultiVectorEncoder(str(folder), device="cpu").save_pretrained(str(folder / "native"))


FOLDERS: dict[str, Callable[[Path], object]] = {
    "PyLate's": lambda folder: pylate(folder, "bert"),
    "PyLate's with a list of its own": lambda folder: pylate(folder, "bert", skiplist_words=["hello", "nowhere"]),
    "PyLate's whose fillers are seen": lambda folder: pylate(folder, "bert", attend_to_expansion_tokens=True),
    "PyLate's that fills nothing up": lambda folder: pylate(folder, "bert", do_query_expansion=False),
    "PyLate's with windows": lambda folder: pylate(folder, "modernbert"),
    "PyLate's whose attention is its own": lambda folder: pylate(folder, "deberta-v2"),
    "Stanford's": lambda folder: stanford(folder, "bert"),
    "Stanford's with punctuation": lambda folder: stanford(folder, "bert", mask_punctuation=False),
    "sentence-transformers'": lambda folder: native(folder, "bert"),
}


@pytest.mark.parametrize("kind", FOLDERS)
async def test_scores_equal_sentence_transformers(kind: str, tmp_path: Path) -> None:
    FOLDERS[kind](tmp_path)
    folder = tmp_path / "native" if (tmp_path / "native").is_dir() else tmp_path
    oracle = MultiVectorEncoder(str(folder), device="cpu")
    engine = RealPooling(folder)
    assert engine.model.is_late_interaction
    assert engine.model.embedding_size == PROJECTED
    for query in QUERIES[:2]:
        wanted = oracle.similarity(oracle.encode_query([query]), oracle.encode_document(DOCUMENTS))[0]
        # Under these names queries and documents have their prompts, where a folder writes its marks as such.
        body = {"queries": query, "documents": DOCUMENTS}
        found = [entry["score"] for entry in (await answer(engine, "/score", body))["data"]]
        np.testing.assert_allclose(found, wanted.tolist(), rtol=1e-4)


@pytest.mark.parametrize("form", ["fused", "by oneDNN"])
async def test_in_bfloat16_they_are_near(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if form == "by oneDNN":
        monkeypatch.setattr(fused_encoder, "misfit", lambda *_: "as on a processor with AMX")
    pylate(tmp_path, "bert")
    body = {"queries": QUERIES[0], "documents": DOCUMENTS}
    exact, rounded = [
        [entry["score"] for entry in (await answer(RealPooling(tmp_path, dtype), "/score", body))["data"]]
        for dtype in ("float32", "bfloat16")
    ]
    np.testing.assert_allclose(rounded, exact, rtol=0.03)


async def test_queries_are_filled_up_and_long_ones_stay_whole(tmp_path: Path) -> None:
    pylate(tmp_path, "bert")
    engine = RealPooling(tmp_path)
    mask = engine.tokenizer.encode("[MASK]", add_special_tokens=False)[0]
    for query in QUERIES:
        await answer(engine, "/score", {"queries": query, "documents": DOCUMENTS[:1]})
    short, long = engine.calls[0][0], engine.calls[2][0]
    own = len(engine.tokenizer.encode(QUERIES[0], add_special_tokens=True)) + 1
    assert (len(short.prompt_token_ids), short.num_unseen_tokens) == (16, 16 - own)
    assert list(short.prompt_token_ids[own:]) == [mask] * (16 - own)
    assert (len(long.prompt_token_ids) > 16, long.num_unseen_tokens) == (True, 0)
