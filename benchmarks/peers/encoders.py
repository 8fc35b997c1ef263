"""Random encoders of MiniLM's size in bfloat16, with a tokenizer: for embedding (mean, then length one) and scoring."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from benchmarks.models import standard_library
from benchmarks.pooling import CONFIG

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def wordpieces() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=CONFIG["vocab_size"], special_tokens=SPECIAL, show_progress=False)
    core.train_from_iterator(standard_library(), trainer)
    core.post_processor = processors.BertProcessing(
        ("[SEP]", SPECIAL.index("[SEP]")), ("[CLS]", SPECIAL.index("[CLS]"))
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=CONFIG["max_position_embeddings"],
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Under the class name that older releases of transformers, which some peers need, know too."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(values, indent=2))


def encoder(name: str, root: Path) -> Path:
    """The folder of "encoder" or "reranker", written on first use."""
    folder = root / f"peers-{name}"
    if (folder / "tokenizer.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    if name == "reranker":
        BertForSequenceClassification(BertConfig(**CONFIG, num_labels=1)).bfloat16().save_pretrained(folder)
    else:
        BertModel(BertConfig(**CONFIG)).bfloat16().save_pretrained(folder)
        (folder / "modules.json").write_text(json.dumps(MODULES))
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512, "do_lower_case": False}))
        for place, values in (
            ("1_Pooling", {"word_embedding_dimension": CONFIG["hidden_size"], "pooling_mode_mean_tokens": True}),
            ("2_Normalize", {}),
        ):
            (folder / place).mkdir(exist_ok=True)
            (folder / place / "config.json").write_text(json.dumps(values))
    save_tokenizer(wordpieces(), folder)
    return folder
