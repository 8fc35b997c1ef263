"""What a folder says of its model before anything of it is loaded: enough to list it, and to know what it is for.

Imports no torch.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from specserve.engine.api import ModelInfo
from specserve.engine.config import ModelConfig
from specserve.engine.context_length import choose_max_model_len
from specserve.engine.model_folder import merged, read_json, resolve_model_folder, transformer_folder
from specserve.engine.pooling.folder import read_sentence_folder
from specserve.engine.pooling.purpose import Form, find_purpose

NOT_LOADED = "not loaded"
LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "max_sequence_length", "seq_length")
"""Names of the longest position, in the order in which they are looked for."""
COUNT_FROM_PADDING = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer", "mpnet", "data2vec-text")
"""Kinds of models whose first position is the one behind that of the padding."""


def preview(config: ModelConfig) -> ModelInfo:
    """The folder of `config` as far as its files tell; a hub id is brought here first.

    `path`, `architecture`, `tasks`, `labels` and `max_model_len` are those of the model once it is loaded; the rest is
    not known. Raises StartupError.
    """
    root = resolve_model_folder(config.path, config.revision)
    folder = transformer_folder(root)
    values = merged(read_json(folder / "config.json"), config.hf_overrides)
    sentence = read_sentence_folder(root, folder, values)
    purpose = find_purpose(values, sentence, config)
    text = values.get("text_config") or values
    length = choose_max_model_len(_lengths(text), config.max_model_len)
    labels: tuple[str, ...] = ()
    if purpose.form.is_pooling:
        first = int(text.get("pad_token_id") or 0) + 1 if text.get("model_type") in COUNT_FROM_PADDING else 0
        if config.max_model_len is None:
            length = min(length - first, sentence.max_tokens or length)
        if purpose.form is Form.TOKEN_SCORER:
            labels = ("LABEL_0",)
        elif purpose.form is not Form.EMBEDDER:
            labels = _labels(values)
    return ModelInfo(
        path=str(folder),
        architecture=str((values.get("architectures") or ["of an unknown kind"])[0]),
        device=NOT_LOADED,
        dtype=NOT_LOADED,
        attention_backend=NOT_LOADED,
        vocab_size=int(text.get("vocab_size") or 0),
        max_model_len=length,
        eos_token_ids=(),
        block_size=1,
        num_blocks=1,
        num_parameters=0,
        tasks=purpose.tasks,
        labels=labels,
        is_late_interaction=sentence.is_late_interaction,
        is_decoder_reranker=purpose.scores is not None,
    )


def _lengths(text: dict[str, Any]) -> SimpleNamespace:
    """What decides the context length, under the names of transformers' configurations."""
    rope = dict(text.get("rope_parameters") or text.get("rope_scaling") or {})
    rope.setdefault("rope_type", rope.get("type"))
    return SimpleNamespace(
        max_position_embeddings=next((text[name] for name in LENGTHS if isinstance(text.get(name), int)), None),
        rope_parameters=rope,
        layer_types=text.get("layer_types"),
        attention_chunk_size=text.get("attention_chunk_size"),
    )


def _labels(values: dict[str, Any]) -> tuple[str, ...]:
    """As transformers names classes: two of them where the configuration says nothing."""
    names = values.get("id2label")
    if isinstance(names, dict) and names:
        return tuple(str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0])))
    return tuple(f"LABEL_{index}" for index in range(int(values.get("num_labels") or 2)))
