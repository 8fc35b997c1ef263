"""A folder becomes a transformer whose hidden states are computed, and the head that makes values of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from specserve.engine.attention.interface import ATTENTION_NAME, ProbingContext, attention_context
from specserve.engine.config import ModelConfig
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.model_folder import merged, read_json, resolve_model_folder, transformer_folder
from specserve.engine.models.load import LoadedModel, load_class, read_config, release_files
from specserve.engine.pooling.classifiers import (
    ClassifierHead,
    LastTokenClassifierHead,
    TokenScoreHead,
    own_activation,
    take_pooler,
    usual_activation,
)
from specserve.engine.pooling.folder import LogitScoreModule, SentenceFolder, read_sentence_folder
from specserve.engine.pooling.heads import EmbeddingHead, Head
from specserve.engine.pooling.purpose import Form, Purpose, find_purpose
from specserve.engine.tokenizer import load_tokenizer

AUTO_CLASSES = {
    Form.EMBEDDER: AutoModel,
    Form.CLASSIFIER: AutoModelForSequenceClassification,
    Form.TOKEN_CLASSIFIER: AutoModelForTokenClassification,
    Form.TOKEN_SCORER: AutoModelForCausalLM,
}
PROBE_TOKENS = 2


@dataclass(frozen=True, slots=True)
class LoadedPooler:
    """`body` is a LoadedModel whose module computes hidden states (of token scorers: logits).

    is_causal           no token sees those behind it: prompts can be computed in chunks, over the paged cache
    reaches_attention   its layers call our attention; others compute one text at a time
    ignores_order       a decoder's layers that shall see both ways, as the configuration says
    """

    body: LoadedModel
    head: Head
    purpose: Purpose
    folder: SentenceFolder
    labels: tuple[str, ...]
    is_causal: bool
    reaches_attention: bool
    ignores_order: bool

    @property
    def embedding_size(self) -> int:
        return self.head.embedding_size if isinstance(self.head, EmbeddingHead) else 0


def find_form(config: ModelConfig) -> tuple[Path, dict[str, Any], SentenceFolder, Purpose]:
    """Where the transformer is, its config.json with the overrides, and what it is for. Raises StartupError."""
    root = resolve_model_folder(config.path, config.revision)
    folder = transformer_folder(root)
    values = merged(read_json(folder / "config.json"), config.hf_overrides)
    sentence = read_sentence_folder(root, folder, values)
    return folder, values, sentence, find_purpose(values, sentence, config)


def load_pooler(config: ModelConfig, progress: Callable[[str, float], None]) -> LoadedPooler:
    """`progress` gets a phase in words and a fraction from 0 to 1. Raises StartupError."""
    progress("looking for the model", 0.0)
    path, values, folder, purpose = find_form(config)
    hf_config = read_config(path, config)
    architecture = str((values.get("architectures") or [type(hf_config).__name__])[0])
    auto_class = AUTO_CLASSES[purpose.form]
    model_class = auto_class._model_mapping.get(type(hf_config), None)
    if model_class is None and not config.trust_remote_code:
        raise UnsupportedModelError(
            f"transformers has no {auto_class.__name__} for {architecture} (model_type {values.get('model_type')!r})",
            "serve another model; one with its own code needs --trust-remote-code",
        )
    reaches = bool(getattr(model_class, "_supports_attention_backend", False))
    loaded = load_class(
        auto_class,
        config,
        path,
        hf_config,
        architecture,
        progress,
        attention=ATTENTION_NAME if reaches else None,
        optional_weights=("pooler.",) if purpose.form is Form.EMBEDDER else (),
    )
    ignores_order = values.get("is_causal") is False or values.get("use_bidirectional_attention") is True
    is_encoder_only = ignores_order or values.get("is_decoder") is False
    body: Any = loaded.model if purpose.form in (Form.EMBEDDER, Form.TOKEN_SCORER) else loaded.model.base_model
    is_causal = reaches and not is_encoder_only and _is_causal(body, loaded.device)
    if purpose.form is Form.EMBEDDER:
        take_pooler(body)
    release_files(loaded.model, but=body)
    head, labels = _head(loaded, body, folder, purpose, config, is_causal)
    return LoadedPooler(
        body=dataclasses.replace(loaded, model=body),
        head=head,
        purpose=purpose,
        folder=folder,
        labels=labels,
        is_causal=is_causal,
        reaches_attention=reaches,
        ignores_order=ignores_order,
    )


def _head(
    loaded: LoadedModel, body: Any, folder: SentenceFolder, purpose: Purpose, config: ModelConfig, is_causal: bool
) -> tuple[Head, tuple[str, ...]]:
    if purpose.form is Form.EMBEDDER:
        return EmbeddingHead(
            folder.modules,
            config.pooler,
            default_mode="last" if is_causal else "mean",
            hidden_size=int(loaded.config.hidden_size),
            device=loaded.device,
        ), ()
    hf_config: Any = loaded.model.config
    if purpose.form is Form.TOKEN_SCORER:
        if not is_causal:
            raise UnsupportedModelError(
                f"{loaded.architecture} does not score tokens: it is no decoder",
                "serve it without classifier_from_token",
            )
        scores = _score_ids(purpose, loaded.path)
        own = own_activation(folder.activation, torch.sigmoid)
        return TokenScoreHead(scores.true_token_id, scores.false_token_id, own=own, pooler=config.pooler), ("LABEL_0",)
    usual = usual_activation(hf_config)
    kind = LastTokenClassifierHead if is_causal else ClassifierHead
    head = kind(loaded.model, body, own=own_activation(folder.activation, usual), usual=usual, pooler=config.pooler)
    names = hf_config.id2label
    return head, tuple(str(names.get(index, f"LABEL_{index}")) for index in range(hf_config.num_labels))


def _score_ids(purpose: Purpose, path: Path) -> LogitScoreModule:
    if isinstance(purpose.scores, LogitScoreModule):
        return purpose.scores
    tokenizer, ids = load_tokenizer(path), []
    for token in purpose.scores or ():
        found = tokenizer.encode(token, add_special_tokens=False)
        if len(found) != 1:
            raise UnsupportedModelError(
                f"classifier_from_token names {token!r}, which is {len(found)} tokens", "name single tokens"
            )
        ids += found
    return LogitScoreModule(ids[-1], ids[0] if len(ids) == 2 else None)


@torch.inference_mode()
def _is_causal(body: nn.Module, device: torch.device) -> bool:
    """Whether all attention layers look back only, as a tiny forward pass shows."""
    context = ProbingContext()
    ids = torch.zeros(1, PROBE_TOKENS, dtype=torch.long, device=device)
    positions = torch.arange(PROBE_TOKENS, device=device)[None]
    with attention_context(context):
        body(input_ids=ids, position_ids=positions)
    return all(spec.is_causal for spec in context.specs.values())
