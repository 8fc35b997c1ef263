"""What is measured: the rows of the comparison, how many requests each takes, and the bars they are held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.load import SCENARIOS, Scenario

GENERATION = {scenario.name: scenario for scenario in SCENARIOS}
POOLING = {
    "embed c4": Scenario("embed c4", 4, 126, 0, 0, 16),
    "rerank c1": Scenario("rerank c1", 1, 110, 0, 0, 8),
}
"""Words a text: with the query's and the tokenizer's own, pairs and texts get close to 128 tokens."""
BATCH = {"embed c4": 32, "rerank c1": 50}
"""Texts or documents a request."""

FIGURES = {
    "prefill c1": "total_tok_s",
    "prefill c8": "total_tok_s",
    "floor c32": "req_s",
    "embed c4": "texts_s",
    "rerank c1": "texts_s",
}
"""What of a run counts; where nothing is said, output tokens per second."""


@dataclass(frozen=True)
class Row:
    """`bar` is how many times the best peer's rate ours has to reach."""

    model: str
    scenario: Scenario
    requests: int
    bar: float

    @property
    def name(self) -> str:
        return self.scenario.name

    @property
    def figure(self) -> str:
        return FIGURES.get(self.name, "output_tok_s")

    @property
    def is_pooling(self) -> bool:
        return self.name in POOLING


def _rows(model: str, bars: dict[str, tuple[int, float]]) -> list[Row]:
    every = GENERATION | POOLING
    return [Row(model, every[name], requests, bar) for name, (requests, bar) in bars.items()]


ROWS = [
    *_rows(
        "large",
        {
            "decode c1": (2, 1.05),
            "decode c8": (8, 1.4),
            "decode c32": (32, 1.15),
            "prefill c1": (3, 1.12),
            "prefill c8": (8, 1.08),
            "prefix c8": (32, 1.4),
        },
    ),
    *_rows(
        "small",
        {
            "decode c1": (8, 1.2),
            "decode c8": (32, 1.5),
            "decode c32": (64, 1.5),
            "prefill c1": (16, 1.2),
            "prefill c8": (32, 1.2),
            "prefix c8": (32, 1.5),
            "floor c32": (1500, 1.5),
        },
    ),
    *_rows("encoder", {"embed c4": (16, 1.2)}),
    *_rows("reranker", {"rerank c1": (8, 1.3)}),
]
"""`large` has the shape of Qwen2.5-0.5B, `small` 15 M parameters, the encoders that of MiniLM."""

READY_BARS_S = {"large": 6.0, "small": 4.0, "encoder": 4.0, "reranker": 4.0}
IDLE_BARS_MIB = {"large": 600.0, "small": 600.0}
"""Memory beyond the weights and the memory of the KV cache."""


def warm_up(row: Row) -> Scenario:
    """Short requests, as many at once as the row has: what a server that was suspended gets before its turn."""
    if row.is_pooling:
        return replace(row.scenario, name=f"{row.name} warm-up")
    return replace(row.scenario, name=f"{row.name} warm-up", prompt_tokens=32, output_tokens=8, shared_prefix=0)


def chosen(models: Sequence[str], names: Sequence[str]) -> list[Row]:
    """The rows of these models that have these names; no names mean all."""
    return [row for row in ROWS if row.model in models and (not names or row.name in names)]
