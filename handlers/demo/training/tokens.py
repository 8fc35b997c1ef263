"""The tokenizer of the demo model, and dialogues as token ids with the mask of what is learnt."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from specserve.handlers.demo.training.dialogues import Item, PlainText, stream, written

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # never part of decoded text
MARKUP = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tools>",
    "</tools>",
    "<tool_response>",
    "</tool_response>",
]
ANSWER = re.compile(r"(?<=<\|im_start\|>assistant\n)(?:<think>\n)?(.*?<\|im_end\|>)", re.S)
CONTEXT = 2048

Sample = tuple[list[int], list[bool]]  # token ids, and which of them the model learns to write


def make_tokenizer(vocabulary: int, num_items: int = 30_000) -> PreTrainedTokenizerFast:
    """Byte-level BPE over our own text; digits are single tokens, and decoded text keeps the markup."""
    core = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    core.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(MARKUP),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator((written(item) for item in itertools.islice(stream(1), num_items)), trainer)
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in MARKUP])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8"),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def pieces(item: Item, tokenizer: PreTrainedTokenizerFast) -> list[tuple[str, bool]]:
    """The rendered text, cut into what is given and what the model writes."""
    if isinstance(item, PlainText):
        return [(item.prompt, False), (item.body + "<|endoftext|>", True)]
    text = str(tokenizer.apply_chat_template(item.messages, tools=item.tools or None, tokenize=False))
    cut: list[tuple[str, bool]] = []
    at = 0
    for match in ANSWER.finditer(text):
        cut += [(text[at : match.start(1)], False), (match[1], True)]
        at = match.end(1)
    return cut


def encode(items: Sequence[Item], tokenizer: PreTrainedTokenizerFast) -> list[Sample]:
    """Token ids and mask of every item; prompt and answer are tokenized apart, as when the model is used."""
    cut = [pieces(item, tokenizer) for item in items]
    texts = [text for parts in cut for text, _ in parts]
    encodings = iter(tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False))
    samples = []
    for parts in cut:
        ids: list[int] = []
        learnt: list[bool] = []
        for _, is_answer in parts:
            new = next(encodings).ids
            ids += new
            learnt += [is_answer] * len(new)
        samples.append((ids, learnt))
    return samples


def batches(tokenizer: PreTrainedTokenizerFast, num_tokens: int, seed: int) -> Iterator[list[Sample]]:
    """Endless batches of samples of similar length, at most `num_tokens` ids each with the padding."""
    source, rng = stream(seed), random.Random(seed)
    while True:
        samples = encode(list(itertools.islice(source, 2000)), tokenizer)
        pool = sorted((s for s in samples if len(s[0]) <= CONTEXT), key=lambda sample: len(sample[0]))
        cut: list[list[Sample]] = [[]]
        for sample in pool:
            if cut[-1] and (len(cut[-1]) + 1) * len(sample[0]) > num_tokens:
                cut.append([])
            cut[-1].append(sample)
        rng.shuffle(cut)
        yield from cut
