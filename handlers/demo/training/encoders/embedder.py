"""The training of the demo embedder: a question shall be nearest to its passage, at several lengths of the vectors."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertModel, PreTrainedTokenizerFast

from specserve.handlers.demo.training.encoders.examples import Example, stream
from specserve.handlers.demo.training.encoders.models import (
    Encoded,
    encode,
    make_config,
    optimizers,
    set_start,
    vectors,
    vectors_of_words,
)
from specserve.handlers.demo.training.encoders.pieces import set_dropout
from specserve.handlers.demo.training.encoders.progress import Progress
from specserve.handlers.demo.training.encoders.recipe import DIMENSIONS, TEMPERATURE, Course, Shape

LIMIT = 96
"""Tokens of a text while learning."""
MERGES_LEFT_OUT = 0.06


def contrast(queries: Tensor, passages: Tensor, is_same: Tensor) -> Tensor:
    """InfoNCE in both directions, mean over the lengths.

    queries [N, H]; passages [M, H], of which the first N are the right ones
    is_same [N, M]  passages that say the same as the right one and are no counterexample
    """
    losses = []
    count = len(queries)
    targets = torch.arange(count)
    hidden = is_same.clone()
    hidden[targets, targets] = False
    for size in DIMENSIONS:
        if size > queries.shape[1]:
            continue
        left, right = functional.normalize(queries[:, :size], dim=1), functional.normalize(passages[:, :size], dim=1)
        scores = (left @ right.T / TEMPERATURE).masked_fill(hidden, -1e4)
        losses.append(functional.cross_entropy(scores, targets))
        losses.append(functional.cross_entropy(scores[:, :count].T, targets))
    return torch.stack(losses).mean()


def passages_of(batch: Sequence[Example]) -> tuple[list[str], Tensor]:
    """The right passages, then the wrong ones; and which say the same [N, M]."""
    listed = [one.right for one in batch] + [wrong for one in batch for wrong in one.wrong]
    numbers: dict[str, int] = {}
    keys = torch.tensor([numbers.setdefault(one.key, len(numbers)) for one in listed])
    return [one.text for one in listed], keys[: len(batch), None] == keys[None]


def learn(bert: BertModel, course: Course, tokenizer: PreTrainedTokenizerFast, progress: Progress, words: bool) -> None:
    """One course in place; with `words` only the vectors of the tokens learn."""
    trained: nn.Module = bert.embeddings if words else bert
    parts = optimizers(trained, course)
    examples = stream(course.seed)
    rng = random.Random(course.seed)
    for step in progress.steps(course, parts):
        batch = list(itertools.islice(examples, course.batch))
        set_dropout(tokenizer, MERGES_LEFT_OUT if rng.random() < 0.7 else None)
        texts, is_same = passages_of(batch)
        encoded: list[Encoded] = encode(tokenizer, [one.query for one in batch] + texts, LIMIT)
        found = vectors_of_words(bert, encoded) if words else vectors(bert, encoded)
        loss = contrast(found[: len(batch)], found[len(batch) :], is_same)
        progress.learn(trained, loss, sum(len(ids) for ids, _ in encoded), step)
    set_dropout(tokenizer, None)


def train_embedder(
    shape: Shape, words: Course, whole: Course, tokenizer: PreTrainedTokenizerFast, log: Path
) -> BertModel:
    torch.manual_seed(whole.seed)
    bert = BertModel(make_config(shape, tokenizer), add_pooling_layer=False)
    set_start(bert)
    learn(bert, words, tokenizer, Progress(log, "words"), words=True)
    learn(bert, whole, tokenizer, Progress(log, "embedder"), words=False)
    return bert
