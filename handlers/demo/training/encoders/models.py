"""The networks of the demo encoders, their optimizers, batches of texts as tensors, and checkpoints."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, PreTrainedTokenizerFast

from specserve.handlers.demo.training.encoders.recipe import DIMENSIONS, Course, Shape

LIKENESS = 0.5
"""How sharply, at the start, tokens look at their likes."""
CHUNK_TOKENS = 6144
"""Tokens that go through a network at once, padding included."""


def make_config(shape: Shape, tokenizer: PreTrainedTokenizerFast, **more: Any) -> BertConfig:
    return BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.positions,
        pad_token_id=tokenizer.pad_token_id,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        hidden_act="relu",
        initializer_range=0.05,
        **more,
    )


@torch.no_grad()
def set_start(bert: Any) -> None:
    """Positions start at zero, and each layer adds little at first. Its queries and keys are alike: tokens look at
    themselves and at their likes, which is how a pair's words find each other."""
    bert.embeddings.position_embeddings.weight.zero_()
    size = bert.config.hidden_size // bert.config.num_attention_heads
    for layer in bert.encoder.layer:
        attention = layer.attention.self
        shared = torch.randn_like(attention.query.weight) * LIKENESS / size**0.5
        attention.query.weight.copy_(shared)
        attention.key.weight.copy_(shared)
        for dense in (layer.attention.output.dense, layer.output.dense):
            dense.weight.mul_(0.3)


def optimizers(model: nn.Module, course: Course) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the matrices of the layers, AdamW for embeddings, heads, norms and biases, each with its full rate."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and ".layer." in name]
    rest = [p for name, p in named if not (p.ndim == 2 and ".layer." in name)]
    adamw = torch.optim.AdamW(rest, lr=course.vector_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    if not matrices:
        return [(adamw, course.vector_rate)]
    muon = torch.optim.Muon(matrices, lr=course.rate, weight_decay=course.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [(muon, course.rate), (adamw, course.vector_rate)]


Encoded = tuple[list[int], list[int]]
"""Token ids and token types of a text or a pair."""


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str | tuple[str, str]], limit: int) -> list[Encoded]:
    found = tokenizer.backend_tokenizer.encode_batch(list(texts))
    return [(one.ids[:limit], one.type_ids[:limit]) for one in found]


def chunks(encoded: Sequence[Encoded]) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Inputs of similar length together: their places, and what the network reads."""
    order = sorted(range(len(encoded)), key=lambda at: len(encoded[at][0]))
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and (end + 1 - start) * len(encoded[order[end]][0]) <= CHUNK_TOKENS:
            end += 1
        end = max(end, start + 1)
        places = order[start:end]
        width = len(encoded[places[-1]][0])
        ids = torch.tensor([encoded[at][0] + [0] * (width - len(encoded[at][0])) for at in places])
        types = torch.tensor([encoded[at][1] + [0] * (width - len(encoded[at][1])) for at in places])
        yield places, {"input_ids": ids, "token_type_ids": types, "attention_mask": (ids != 0).long()}
        start = end


def in_order(parts: list[tuple[list[int], Tensor]]) -> Tensor:
    """Rows of several chunks, back in the places their texts had."""
    places = torch.tensor([at for chunk, _ in parts for at in chunk])
    return torch.cat([rows for _, rows in parts])[places.argsort()]


def vectors(bert: nn.Module, encoded: Sequence[Encoded]) -> Tensor:
    """The mean over the tokens of each text [N, H], of any length."""
    parts = []
    for places, inputs in chunks(encoded):
        hidden = bert(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"].unsqueeze(-1)
        parts.append((places, (hidden * mask).sum(1) / mask.sum(1)))
    return in_order(parts)


def vectors_of_words(bert: Any, encoded: Sequence[Encoded]) -> Tensor:
    """What `vectors` gives for a network without layers [N, H]."""
    embeddings = bert.embeddings
    ids = torch.tensor([token for ids, _ in encoded for token in ids])
    lengths = torch.tensor([len(ids) for ids, _ in encoded])
    hidden = embeddings.LayerNorm(embeddings.word_embeddings(ids) + embeddings.token_type_embeddings.weight[0])
    texts = torch.arange(len(encoded)).repeat_interleave(lengths)
    sums = torch.zeros(len(encoded), hidden.shape[1]).index_add(0, texts, hidden)
    return sums / lengths.unsqueeze(1)


def logits(classifier: nn.Module, encoded: Sequence[Encoded]) -> Tensor:
    """The score of each pair [N]."""
    return in_order([(places, classifier(**inputs).logits[:, 0].float()) for places, inputs in chunks(encoded)])


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _save(model: Any, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    kept = copy.deepcopy(model).to(torch.bfloat16)
    kept.save_pretrained(out)
    tokenizer.save_pretrained(out)


def save_embedder(bert: Any, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """A folder of sentence-transformers: the network, the mean over its tokens, length one."""
    bert.config.matryoshka_dimensions = list(DIMENSIONS)
    _save(bert, tokenizer, out)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    listed = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (path, kind) in enumerate(modules)
    ]
    _write(out / "modules.json", listed)
    config = bert.config
    length = {"max_seq_length": config.max_position_embeddings, "do_lower_case": False}
    _write(out / "sentence_bert_config.json", length)
    pooling = {"word_embedding_dimension": config.hidden_size, "pooling_mode_mean_tokens": True}
    _write(out / "1_Pooling/config.json", pooling)
    own: dict[str, Any] = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    _write(out / "config_sentence_transformers.json", own)


def save_reranker(classifier: Any, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """A cross-encoder of one label, whose logit goes through a sigmoid."""
    classifier.config.sentence_transformers = {"activation_fn": "torch.nn.modules.activation.Sigmoid"}
    _save(classifier, tokenizer, out)
