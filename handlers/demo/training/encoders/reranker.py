"""The training of the demo reranker: of some passages the right one shall win, and only that be called relevant."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from specserve.handlers.demo.training.encoders.examples import Example, stream
from specserve.handlers.demo.training.encoders.models import encode, logits, make_config, optimizers, set_start
from specserve.handlers.demo.training.encoders.pieces import SEP, set_dropout
from specserve.handlers.demo.training.encoders.progress import Progress
from specserve.handlers.demo.training.encoders.recipe import NUM_CANDIDATES, Course, Shape

LIMIT = 128
"""Tokens of a pair while learning."""
JOINED_SHARE = 0.1
"""Pairs written as one text with [SEP] between, as a classifier of single texts gets them."""
MERGES_LEFT_OUT = 0.04
TYPE_MARK = 0.5
"""How much the second text's tokens differ from the first's at the start, beside the difference of two words."""


def candidates(example: Example, others: Sequence[Example], rng: random.Random) -> list[str]:
    """The right passage, its own counterexamples, and passages of other examples up to NUM_CANDIDATES."""
    wrong = [one for one in example.wrong if one.key != example.right.key]
    while len(wrong) < NUM_CANDIDATES - 1:
        other = rng.choice(others)
        one = rng.choice([other.right, *other.wrong])
        if one.key != example.right.key:
            wrong.append(one)
    return [example.right.text, *(one.text for one in wrong[: NUM_CANDIDATES - 1])]


def start_from(bert: BertModel, shape: Shape, tokenizer: PreTrainedTokenizerFast) -> BertForSequenceClassification:
    """A classifier of one label on the embedder's vectors of tokens; those of the second text get a mark."""
    config = make_config(shape, tokenizer, num_labels=1, id2label={0: "relevant"}, label2id={"relevant": 0})
    model = BertForSequenceClassification(config)
    set_start(model.bert)
    model.bert.embeddings.load_state_dict(bert.embeddings.state_dict())
    with torch.no_grad():
        words, types = (getattr(model.bert.embeddings, f"{name}_embeddings").weight for name in ("word", "token_type"))
        types[1] = types[0] + TYPE_MARK * words.std() * torch.randn(shape.hidden)
    return model


def loss_of(scores: Tensor, is_loose: Tensor) -> Tensor:
    """scores [N, C], the right one first. Who wins, and for all but loose examples whether each is relevant."""
    wins = functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long))
    targets = torch.zeros_like(scores)
    targets[:, 0] = 1.0
    weights = torch.ones_like(scores)
    weights[:, 0] = 2.0
    weights[is_loose] = 0.0
    relevant = functional.binary_cross_entropy_with_logits(scores, targets, weights, reduction="sum")
    return wins + relevant / weights.sum().clamp(min=1.0)


def train_reranker(
    bert: BertModel, shape: Shape, course: Course, tokenizer: PreTrainedTokenizerFast, progress: Progress
) -> BertForSequenceClassification:
    torch.manual_seed(course.seed)
    model = start_from(bert, shape, tokenizer)
    parts = optimizers(model, course)
    examples = stream(course.seed)
    rng = random.Random(course.seed)
    for step in progress.steps(course, parts):
        batch = list(itertools.islice(examples, course.batch))
        set_dropout(tokenizer, MERGES_LEFT_OUT if rng.random() < 0.5 else None)
        pairs = [(one.query, text) for one in batch for text in candidates(one, batch, rng)]
        is_joined = rng.random() < JOINED_SHARE
        texts: list[str | tuple[str, str]] = [
            f"{one} {SEP} {other}" if is_joined else (one, other) for one, other in pairs
        ]
        encoded = encode(tokenizer, texts, LIMIT)
        scores = logits(model, encoded).view(len(batch), NUM_CANDIDATES)
        loss = loss_of(scores, torch.tensor([one.is_loose for one in batch]))
        progress.learn(model, loss, sum(len(ids) for ids, _ in encoded), step)
    set_dropout(tokenizer, None)
    return model
