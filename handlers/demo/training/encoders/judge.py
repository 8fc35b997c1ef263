"""How well the demo encoders find what belongs together.

    python -m specserve.handlers.demo.training.encoders.judge DIR

Held-out wordings of the training's own generators, each query against all passages of its topic, and the sentences
written by hand. Writes the numbers to DIR/report.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from specserve.handlers.demo.training.encoders.examples import MAKERS, kept_out
from specserve.handlers.demo.training.encoders.judged_texts import groups
from specserve.handlers.demo.training.encoders.models import encode, logits, vectors
from specserve.handlers.demo.training.encoders.recipe import DIMENSIONS

LIMIT = 512
COUNT = 150
"""Held-out questions of each topic; some topics have fewer."""
NUM_CHOICES = 10
"""Passages between which the reranker chooses in held-out questions."""
TOPICS = [topic for topic in MAKERS if topic not in ("moods", "kinds")]
"""Those with one right passage."""


class Embedder:
    def __init__(self, folder: Path) -> None:
        self.tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def likeness(self, queries: Sequence[str], passages: Sequence[str], size: int | None = None) -> torch.Tensor:
        """Cosines [queries, passages] of the leading `size` numbers."""
        found = vectors(self.model, encode(self.tokenizer, [*queries, *passages], LIMIT))[:, :size]
        found = functional.normalize(found, dim=1)
        return found[: len(queries)] @ found[len(queries) :].T


class Reranker:
    def __init__(self, folder: Path) -> None:
        self.tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def scores(self, queries: Sequence[str], passages: Sequence[Sequence[str]]) -> list[list[float]]:
        """From 0 to 1, for each query of its own passages."""
        pairs = [(query, text) for query, texts in zip(queries, passages, strict=True) for text in texts]
        found = iter(logits(self.model, encode(self.tokenizer, pairs, LIMIT)).sigmoid().tolist())
        return [[next(found) for _ in texts] for texts in passages]


def ranks(scores: torch.Tensor) -> list[int]:
    """At which place, from 1, each query's own passage comes; it is the passage of the same number."""
    own = scores.diagonal()[:, None]
    return [int(count) for count in (scores >= own).sum(1)]


def shares(places: Sequence[int]) -> dict[str, float]:
    """How often the right one is first, and the mean of one over its place."""
    count = len(places)
    return {
        "first": round(sum(place == 1 for place in places) / count, 3),
        "reciprocal_rank": round(sum(1 / place for place in places) / count, 3),
        "questions": count,
    }


def judge_embedder(embedder: Embedder) -> dict[str, Any]:
    topics = {}
    for topic in TOPICS:
        asked = kept_out(topic, COUNT, 1)
        found = embedder.likeness([one.query for one in asked], [one.right.text for one in asked])
        topics[topic] = shares(ranks(found))
    queries, passages, _ = written()
    by_hand = {str(size): shares(ranks(embedder.likeness(queries, passages, size))) for size in DIMENSIONS}
    return {"held_out": topics, "by_hand": by_hand}


def judge_reranker(reranker: Reranker) -> dict[str, Any]:
    topics = {}
    for topic in TOPICS:
        asked = kept_out(topic, COUNT, 1)
        choices = []
        for at, one in enumerate(asked):
            others = [asked[(at + step) % len(asked)].right.text for step in range(1, NUM_CHOICES)]
            choices.append([one.right.text, *[wrong.text for wrong in one.wrong], *others][:NUM_CHOICES])
        found = reranker.scores([one.query for one in asked], choices)
        topics[topic] = shares([sum(score >= row[0] for score in row) for row in found])
    queries, passages, trios = written()
    all_of_them = torch.tensor(reranker.scores(queries, [passages] * len(queries)))
    three = reranker.scores(queries, trios)
    return {
        "held_out": topics,
        "by_hand": shares(ranks(all_of_them)),
        "by_hand_of_three": shares([sum(score >= row[0] for score in row) for row in three]),
        "by_hand_right_above_half": round(sum(row[0] > 0.5 for row in three) / len(three), 3),
        "by_hand_wrong_below_half": round(sum(s < 0.5 for row in three for s in row[1:]) / (2 * len(three)), 3),
    }


def written() -> tuple[list[str], list[str], list[list[str]]]:
    """Queries; all sentences, the right ones first and in the order of the queries; and the three of each query."""
    listed = groups()
    right = [one for _, one, _ in listed]
    return (
        [query for query, _, _ in listed],
        right + [text for _, _, wrong in listed for text in wrong],
        [[one, *wrong] for _, one, wrong in listed],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds embedder/ and reranker/")
    folder = parser.parse_args().folder
    for name, found in (
        ("embedder", judge_embedder(Embedder(folder / "embedder"))),
        ("reranker", judge_reranker(Reranker(folder / "reranker"))),
    ):
        text = json.dumps(found, indent=2)
        print(name, text)
        (folder / name / "report.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
