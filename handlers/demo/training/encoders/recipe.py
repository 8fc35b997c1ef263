"""The numbers of the demo encoders: their shape and their training, as they made the shipped checkpoints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A small BERT. Positions that training never reaches keep the value zero, so long texts do no harm."""

    vocabulary: int = 5120
    hidden: int = 192
    layers: int = 2
    heads: int = 6
    feed_forward: int = 384
    positions: int = 512


@dataclass(frozen=True)
class Course:
    """One training: `batch` examples a step, rates that warm up and then fall to zero."""

    steps: int
    batch: int
    rate: float = 4e-3
    vector_rate: float = 4e-3
    weight_decay: float = 0.02
    warmup_steps: int = 60
    decay_share: float = 0.8
    seed: int = 11

    def rate_factor(self, step: int) -> float:
        """The share of the full rate at a step."""
        left = (self.steps - step) / (self.steps * self.decay_share)
        return min(1.0, (step + 1) / self.warmup_steps, left)


DIMENSIONS = (32, 64, 128, 192)
"""Lengths at which the leading numbers of a vector are trained to be useful."""
TEMPERATURE = 0.05
NUM_CANDIDATES = 6
"""Passages that the reranker sees for each query while it learns, the right one among them."""
WORDS = Course(steps=500, batch=384, vector_rate=6e-3, seed=10)
"""First the vectors of the tokens alone, which costs little and brings most."""
EMBEDDER = Course(steps=80, batch=160, rate=2e-3, vector_rate=1.5e-3, warmup_steps=30)
RERANKER = Course(steps=900, batch=32, rate=3e-3, vector_rate=1.5e-3, warmup_steps=30, seed=12)
