"""Tiny random models that embed, classify and judge pairs, as folders to serve: the demo model only writes.

python -m contract_tests.tiny_models FOLDER     writes them all below FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from specserve.handlers.demo import checkpoint_path

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
CORPUS = ["the capital of france is paris", "roses are red and violets are blue", "one two three four five six"]
TALK = "{% for message in messages %}{{ message.content }} {% endfor %}"
PAIR = "{{ instruction | default('') }} {{ query }} {{ document }}"
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
}
FLAGS: Mapping[str, tuple[str, ...]] = {
    "embedder": ("--chat-template", TALK),
    "classifier": ("--chat-template", TALK),
    "reranker": (),
    "judge": ("--chat-template", PAIR, "--hf-overrides", '{"classifier_from_token": ["n", "y"]}'),
}
"""The models, and what each is served with."""


def write_models(folder: Path) -> dict[str, Path]:
    """All of them, by name."""
    torch.manual_seed(0)
    found = {name: folder / name for name in FLAGS}
    write_embedder(found["embedder"])
    write_classifier(found["classifier"], ["bad", "fair", "good"])
    write_classifier(found["reranker"], ["LABEL_0"])
    write_judge(found["judge"])
    return found


def write_tokenizer(folder: Path) -> int:
    """WordPiece as BERT has it; the size of its vocabulary."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return int(tokenizer.get_vocab_size())


def write_embedder(folder: Path) -> None:
    """A sentence-transformers folder with prompts, whose vectors may be shortened."""
    config = BertConfig(vocab_size=write_tokenizer(folder), **SIZES)
    save(BertModel(config), folder, matryoshka_dimensions=[8, 16, 32])
    kinds = ("Transformer", "Pooling", "Normalize")
    package = "sentence_transformers.models"
    modules = [
        {"idx": at, "name": str(at), "path": f"{at}_{kind}" if at else "", "type": f"{package}.{kind}"}
        for at, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    prompts = {"prompts": {"query": "two ", "document": "one "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))


def write_classifier(folder: Path, labels: list[str]) -> None:
    names = dict(enumerate(labels))
    ids = {name: at for at, name in names.items()}
    config = BertConfig(vocab_size=write_tokenizer(folder), id2label=names, label2id=ids, **SIZES)
    save(AutoModelForSequenceClassification.from_config(config), folder)


def write_judge(folder: Path) -> None:
    """A decoder with the demo model's vocabulary, asked for y or n."""
    demo = Path(checkpoint_path())
    vocab_size = json.loads((demo / "config.json").read_text())["vocab_size"]
    config = Qwen3Config(vocab_size=vocab_size, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True, **SIZES)
    save(AutoModelForCausalLM.from_config(config), folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((demo / name).read_bytes())


def write_adapter(folder: Path) -> None:
    """Of rank 1, for the demo model, with weights that change next to nothing."""
    demo = json.loads((Path(checkpoint_path()) / "config.json").read_text())
    num_in = int(demo["hidden_size"])
    num_out = int(demo["num_attention_heads"]) * int(demo.get("head_dim") or num_in // demo["num_attention_heads"])
    weights = {
        f"base_model.model.model.layers.{at}.self_attn.q_proj.lora_{side}.weight": torch.full(shape, 1e-3)
        for at in range(demo["num_hidden_layers"])
        for side, shape in (("A", (1, num_in)), ("B", (num_out, 1)))
    }
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(about))


def save(model: PreTrainedModel, folder: Path, **more: Any) -> None:
    model.save_pretrained(folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | more))


if __name__ == "__main__":
    write_models(Path(sys.argv[1]))
