"""The tokenizer of the demo encoders: byte-level BPE over words in lower case, so that no text is unknown to it."""

from __future__ import annotations

import itertools

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from specserve.handlers.demo.training.encoders.examples import stream
from specserve.handlers.demo.training.encoders.recipe import Shape

PAD, CLS, SEP = SPECIAL = ["[PAD]", "[CLS]", "[SEP]"]


def make_tokenizer(shape: Shape, num_examples: int = 40_000) -> PreTrainedTokenizerFast:
    """Every word begins with the same mark, wherever it stands; digits and punctuation are tokens of their own."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.BertNormalizer(strip_accents=False, lowercase=True)]
    )
    words = [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)]
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [*words, pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=3,
        show_progress=False,
    )
    chosen = itertools.islice(stream(1), num_examples)
    core.train_from_iterator((text for one in chosen for text in (one.query, one.right.text)), trainer)
    core.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
        special_tokens=[(token, core.token_to_id(token)) for token in (CLS, SEP)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        cls_token=CLS,
        sep_token=SEP,
        model_max_length=shape.positions,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def set_dropout(tokenizer: PreTrainedTokenizerFast, share: float | None) -> None:
    """Leave out a share of the merges, so that a word is met in several cuts while learning; None turns it off."""
    tokenizer.backend_tokenizer.model.dropout = share
