"""What the machine would allow at most, from the rates it showed in the same minutes.

A decoding step reads all weights once and multiplies them with one vector per sequence, so it takes the longer of both;
a prompt token costs the products of all layers without the head. Attention, HTTP and scheduling are left out, so no
server can reach a bound. Weights that fit into the last cache are taken to be read in no time.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from benchmarks.load import Scenario
from benchmarks.peers.rows import BATCH, Row

LAST_CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")


@dataclass(frozen=True)
class Rates:
    """Read bandwidth in GB/s and bfloat16 products in GFLOP/s."""

    read_gb_s: float
    gemm_gflop_s: float


@dataclass(frozen=True)
class Products:
    """Parameters of the linear layers: of all blocks, and of the head. Two bytes and two FLOPs each."""

    blocks: int
    head: int

    @property
    def step_bytes(self) -> int:
        return 2 * (self.blocks + self.head)


def products(folder: Path) -> Products:
    """Read from the checkpoint: everything two-dimensional but embeddings; a tied embedding is the head too."""
    config = json.loads((folder / "config.json").read_text())
    blocks = head = embedding = 0
    with safe_open(folder / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118 - no mapping
            shape = file.get_slice(name).get_shape()
            if len(shape) != 2 or "pooler" in name or "classifier" in name:
                continue  # what is computed for one token of a text
            if "lm_head" in name:
                head = math.prod(shape)
            elif "embed" in name:
                embedding = max(embedding, math.prod(shape))
            else:
                blocks += math.prod(shape)
    if config.get("tie_word_embeddings") and "CausalLM" in str(config.get("architectures")):
        head = embedding
    return Products(blocks, head)


def last_cache_bytes() -> int:
    """Size of the last cache that the cores share; 0 where the system does not tell."""
    try:
        return int(LAST_CACHE.read_text().strip().removesuffix("K")) << 10
    except (OSError, ValueError):
        return 0


def generation_bound(scenario: Scenario, requests: int, weights: Products, rates: Rates, cache: int = 0) -> float:
    """Seconds that the requests take at least."""
    at_once = min(scenario.concurrency, requests)
    flop_s = rates.gemm_gflop_s * 1e9
    read_s = 0.0 if weights.step_bytes <= cache else weights.step_bytes / (rates.read_gb_s * 1e9)
    step_s = max(read_s, at_once * 2 * (weights.blocks + weights.head) / flop_s)
    own_tokens = scenario.prompt_tokens - scenario.shared_prefix
    prompt_s = (requests * own_tokens + scenario.shared_prefix) * 2 * weights.blocks / flop_s
    waves = math.ceil(requests / at_once)
    return prompt_s + waves * (scenario.output_tokens - 1) * step_s


def bound(row: Row, weights: Products, rates: Rates, cache: int = 0) -> float | None:
    """The row's rate at most, in the unit of its figure; None where the products say nothing about it."""
    scenario = row.scenario
    if row.name == "floor c32":
        return None
    if row.is_pooling:
        tokens = row.requests * BATCH[row.name] * 128
        return row.requests * BATCH[row.name] / (tokens * 2 * weights.blocks / (rates.gemm_gflop_s * 1e9))
    tokens = row.requests * scenario.output_tokens
    if row.figure == "total_tok_s":
        tokens += row.requests * scenario.prompt_tokens
    return tokens / generation_bound(scenario, row.requests, weights, rates, cache)
