"""Tiny random models that embed or classify, saved as real folders, and a way to pool texts with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trained_tokenizers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, PreTrainedModel

from specserve.engine.api import PoolingRequest
from specserve.engine.batch import RequestProgress
from specserve.engine.config import CacheConfig, EngineConfig, ModelConfig
from specserve.engine.core import EngineCore
from specserve.engine.params import PoolingParams, PoolingTask
from specserve.engine.runner.pooling_runner import PoolingRunner
from specserve.engine.scheduler import Scheduler
from specserve.engine.tokenizer import load_tokenizer

VOCAB_SIZE = 199
BERT: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 130,
    "pad_token_id": 0,
}
DECODER: dict[str, Any] = {
    **BERT,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "roberta": {**BERT, "pad_token_id": 1, "type_vocab_size": 1},
    "xlm-roberta": {**BERT, "pad_token_id": 1, "type_vocab_size": 1},
    "camembert": {**BERT, "pad_token_id": 1, "type_vocab_size": 1},
    "distilbert": {
        "vocab_size": VOCAB_SIZE,
        "dim": 64,
        "hidden_dim": 96,
        "n_layers": 3,
        "n_heads": 4,
        "max_position_embeddings": 130,
        "pad_token_id": 0,
    },
    "mpnet": {**BERT, "pad_token_id": 1},
    "electra": {**BERT, "embedding_size": 32},
    "albert": {**BERT, "embedding_size": 32},
    "deberta-v2": {**BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "modernbert": {
        **BERT,
        "local_attention": 16,
        "global_attn_every_n_layers": 3,
        "cls_token_id": 1,
        "sep_token_id": 2,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "nomic_bert": BERT,
    "eurobert": {**DECODER},
    "gemma3_text": {**DECODER, "use_bidirectional_attention": True, "sliding_window": 16},
    "llama": DECODER,
    "qwen3": DECODER,
    "mistral": DECODER,
    "gemma2": DECODER,
}
CAUSAL = ("llama", "qwen3", "mistral", "gemma2")


def tiny_config(name: str, **changes: Any) -> Any:
    return AutoConfig.for_model(name, **{**ARCHITECTURES[name], **changes})


def write_checkpoint(
    name: str, folder: Path, auto_class: Any = AutoModel, *, extra: dict[str, Any] | None = None, **changes: Any
) -> Path:
    """Weights large enough for results that differ. `extra` is written into config.json."""
    torch.manual_seed(0)
    model = auto_class.from_config(tiny_config(name, **changes), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0.0, 0.15)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    if extra:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | extra))
    return folder


def write_sentence_folder(
    folder: Path, modules: Sequence[tuple[str, dict[str, Any]]], name: str = "bert", **own: Any
) -> Path:
    """A sentence-transformers folder with a tokenizer: `modules` are kinds and configurations behind the transformer.

    `own` is what config_sentence_transformers.json says.
    """
    trained_tokenizers.word_piece(folder)
    write_checkpoint(name, folder, vocab_size=load_tokenizer(folder).vocab_size)
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    generator = torch.Generator().manual_seed(1)
    for number, (kind, config) in enumerate(modules, start=1):
        path = f"{number}_{kind}"
        listed.append(
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        )
        (folder / path).mkdir()
        (folder / path / "config.json").write_text(json.dumps(config))
        if kind == "Dense":
            shape = config["out_features"], config["in_features"]
            tensors = {"linear.weight": torch.randn(shape, generator=generator)}
            if config.get("bias", True):
                tensors["linear.bias"] = torch.randn(shape[0], generator=generator)
            save_file(tensors, folder / path / "model.safetensors")
        if kind == "LayerNorm":
            size = config["dimension"]
            tensors = {f"norm.{part}": torch.randn(size, generator=generator) for part in ("weight", "bias")}
            save_file(tensors, folder / path / "model.safetensors")
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 128, "do_lower_case": false}')
    (folder / "config_sentence_transformers.json").write_text(json.dumps(own))
    return folder


def oracle(folder: Path, auto_class: Any = AutoModel) -> PreTrainedModel:
    model: PreTrainedModel = auto_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def load(
    folder: Path, dtype: str = "float32", backend: str = "auto", device: str = "cpu", **options: Any
) -> PoolingRunner:
    config = EngineConfig(
        model=ModelConfig(path=str(folder), dtype=dtype, device=device, attention_backend=backend, **options),
        cache=CacheConfig(num_blocks=96),
    )
    return PoolingRunner.load(config, lambda phase, done: None)


class Pooling:
    """An engine without processes around a runner: texts in, values out."""

    def __init__(self, runner: PoolingRunner, *, token_budget: int | None = None, max_num_seqs: int = 8) -> None:
        self.runner = runner
        scheduler = Scheduler(
            runner.make_cache(enable_prefix_caching=True),
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=token_budget or runner.max_num_batched_tokens,
            max_model_len=runner.info.max_model_len,
            computes_whole_prompts=runner.computes_whole_prompts,
        )
        self.core = EngineCore(scheduler, runner, reads_all_hidden=runner.reads_all_hidden)
        self.num_steps = 0
        self._num_requests = 0

    def __call__(
        self,
        texts: Sequence[Sequence[int]],
        task: PoolingTask | None = None,
        *,
        types: Sequence[Sequence[int]] | None = None,
        num_unseen: int = 0,
        **params: Any,
    ) -> list[np.ndarray]:
        found = self.progress(texts, task, types=types, num_unseen=num_unseen, **params)
        return [progress.pooled.unpack() for progress in found]

    def progress(
        self,
        texts: Sequence[Sequence[int]],
        task: PoolingTask | None = None,
        *,
        types: Sequence[Sequence[int]] | None = None,
        num_unseen: int = 0,
        **params: Any,
    ) -> list[RequestProgress]:
        chosen = PoolingParams(task=task or PoolingTask(self.runner.info.tasks[0]), **params)
        first = self._num_requests
        self._num_requests += len(texts)
        requests = [
            PoolingRequest(
                request_id=str(first + at),
                prompt_token_ids=ids,
                params=chosen,
                token_type_ids=None if types is None else types[at],
                num_unseen_tokens=num_unseen,
            )
            for at, ids in enumerate(texts)
        ]
        assert self.core.pool(requests) == []
        found: dict[str, RequestProgress] = {}
        while self.core.has_requests:
            for progress in self.core.step():
                assert progress.error is None, progress.error
                assert progress.pooled is not None
                found[progress.request_id] = progress
            self.num_steps += 1
        return [found[request.request_id] for request in requests]
