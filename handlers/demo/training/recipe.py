"""The numbers of the demo model: its shape and its training, as they made the shipped checkpoint."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A small decoder; normalised queries and keys let it learn at a high rate without saturating."""

    vocabulary: int = 3072
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    feed_forward: int = 512


@dataclass(frozen=True)
class Stage:
    """One stage: the rate warms up, holds and falls to zero; early on, some batches are copying drills."""

    steps: int = 10_000
    batch_tokens: int = 2048
    rate: float = 1e-2
    vector_rate: float = 5e-3
    weight_decay: float = 0.05
    warmup_steps: int = 30
    decay_share: float = 0.5
    drill_until: int = 4000
    seed: int = 7

    def rate_factor(self, step: int) -> float:
        """The share of the full rate at a step."""
        left = (self.steps - step) / (self.steps * self.decay_share)
        return min(1.0, (step + 1) / self.warmup_steps, left)

    def is_drill(self, step: int) -> bool:
        """Every other batch at the very start, then every eighth, then none."""
        return step < self.drill_until and step % (2 if step < 400 else 8) == 1


FIRST = Stage()
# Two copying layers have been put beneath: a shorter stage in which they and the rest learn to work together.
SECOND = Stage(steps=2000, rate=5e-3, vector_rate=2.5e-3, decay_share=1.0, drill_until=1000, seed=8)
