"""Tokenizers of the common kinds, trained on a few sentences and saved as a model folder holds them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GPT2Tokenizer, LlamaTokenizer, PreTrainedTokenizerFast

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and it doesn't stop there.",
    "Ein Bär läuft über die Straße; übermäßig groß war er nicht.",
    "def add(a, b):\n    return a + b\n\n\tprint(add(1, 23), 'x')",
    "你好，世界。今天天气很好 🙂 we say hello 👨‍👩‍👧 to e\u0301veryone",
    "one two three, one two three; hello hello hello world!",
] * 4
TEXTS = [
    "",
    " ",
    "hello world",
    "  two  spaces\n\nand lines\t",
    "don't stop, it's fine . really !",
    "Straße übermäßig 你好 🙂👨‍👩‍👧 e\u0301 ﬁ \u0e01\u0e33",
    "<|im_start|>user\nhi<|im_end|>",
    "<s>hello</s> <think>hm</think> a<|end of turn|>b [CLS] [SEP]",
    "\x00\x7f\ufffd zero",
]


def byte_level(folder: Path) -> Path:
    """As GPT-2, Llama 3 and Qwen: byte-level BPE, chat tokens, added tokens that are not special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=420,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        ),
    )
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), "</think>", "<|end of turn|>"])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template="{{ messages }}",
    ).save_pretrained(folder)
    return folder


def byte_fallback(folder: Path) -> Path:
    """As Llama 2 and Mistral: spaces written as ▁, unknown characters as <0xNN> tokens, a token at the start."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    trained.train_from_iterator(CORPUS[:3], trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"]))
    model = json.loads(trained.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [piece for piece in model["vocab"] if piece != "<unk>"]
    tokenizer = LlamaTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)},
        merges=[tuple(merge) for merge in model["merges"]],
    )
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.save_pretrained(folder)
    return folder


def word_piece(folder: Path) -> Path:
    """As BERT: lower case, ## inside words, [CLS] and [SEP] around the text."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        extra_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=True,
    ).save_pretrained(folder)
    return folder


def unigram(folder: Path) -> Path:
    """As T5: scored pieces with a metaspace decoder, which drops the first token's space."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=250, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(folder)
    return folder


def vocabulary_and_merges(folder: Path) -> Path:
    """As the first GPT-2 folders: `vocab.json` and `merges.txt`, no `tokenizer.json`; names from the class."""
    byte_level(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    for file in folder.iterdir():
        file.unlink()
    vocabulary = dict(model["vocab"])
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": GPT2Tokenizer.__name__}))
    return folder


KINDS: dict[str, Callable[[Path], Path]] = {
    "byte_level": byte_level,
    "byte_fallback": byte_fallback,
    "word_piece": word_piece,
    "unigram": unigram,
}
