"""Bounds of the comparison with other servers: worked out by hand for round numbers, and properties of any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertModel, Qwen2Config, Qwen2ForCausalLM

from benchmarks.load import Scenario
from benchmarks.peers.bounds import Products, Rates, bound, generation_bound, products
from benchmarks.peers.rows import ROWS

RATES = Rates(read_gb_s=40.0, gemm_gflop_s=400.0)
WEIGHTS = Products(blocks=360_000_000, head=140_000_000)
"""1 GB in 16 bits: 25 ms a step to read, 2.5 ms a sequence to multiply."""
BY_NAME = {row.name: row for row in ROWS if row.model == "large"}


def test_one_sequence_is_bound_by_reading_the_weights_once_a_token() -> None:
    prompt_s, steps_s = 128 * 0.72 / 400, 127 * 0.025
    row = replace(BY_NAME["decode c1"], requests=1)
    assert bound(row, WEIGHTS, RATES) == pytest.approx(128 / (prompt_s + steps_s))


def test_many_sequences_are_bound_by_their_products() -> None:
    prompt_s, steps_s = 32 * 128 * 0.72 / 400, 127 * 32 * 0.0025
    assert bound(BY_NAME["decode c32"], WEIGHTS, RATES) == pytest.approx(32 * 128 / (prompt_s + steps_s))


def test_a_shared_prefix_is_computed_once() -> None:
    prompt_s, steps_s = (1024 + 32 * 16) * 0.72 / 400, 4 * 31 * 0.025
    row = replace(BY_NAME["prefix c8"], requests=32)
    assert bound(row, WEIGHTS, RATES) == pytest.approx(32 * 32 / (prompt_s + steps_s))


def test_prefill_counts_prompt_and_answer() -> None:
    prompt_s, steps_s = 8 * 1024 * 0.72 / 400, 15 * 0.025
    row = replace(BY_NAME["prefill c8"], requests=8)
    assert bound(row, WEIGHTS, RATES) == pytest.approx(8 * 1040 / (prompt_s + steps_s))


def test_weights_inside_the_last_cache_cost_no_bandwidth() -> None:
    scenario = Scenario("x", 1, 1, 11, 1, 1)
    small = Products(blocks=10_000_000, head=0)
    outside = generation_bound(scenario, 1, small, RATES, cache=0)
    inside = generation_bound(scenario, 1, small, RATES, cache=32 << 20)
    assert outside == pytest.approx(0.02e9 / 400e9 + 10 * 0.0005)
    assert inside == pytest.approx(11 * 0.02e9 / 400e9)


@given(
    st.floats(1, 1000),
    st.floats(1, 5000),
    st.integers(1, 64),
    st.integers(1, 64),
    st.sampled_from([1, 128, 1024]),
    st.integers(1, 64),
)
def test_a_faster_machine_is_never_bound_to_be_slower(
    read: float, gemm: float, concurrency: int, requests: int, prompt: int, output: int
) -> None:
    scenario = Scenario("x", concurrency, prompt, output, requests, requests)
    slow = generation_bound(scenario, requests, WEIGHTS, Rates(read, gemm))
    assert generation_bound(scenario, requests, WEIGHTS, Rates(2 * read, gemm)) <= slow
    assert generation_bound(scenario, requests, WEIGHTS, Rates(read, 2 * gemm)) <= slow
    assert generation_bound(scenario, requests, WEIGHTS, Rates(2 * read, 2 * gemm)) == pytest.approx(slow / 2)


def linear_parameters(model: torch.nn.Module) -> int:
    return sum(part.weight.numel() for part in model.modules() if isinstance(part, torch.nn.Linear))


@pytest.mark.parametrize("is_tied", [True, False])
def test_products_of_a_checkpoint_are_its_linear_layers(tmp_path: Path, is_tied: bool) -> None:
    config = Qwen2Config(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=is_tied,
    )
    model = Qwen2ForCausalLM(config)
    model.save_pretrained(tmp_path)
    assert products(tmp_path) == Products(linear_parameters(model) - 300 * 32, 300 * 32)


def test_an_encoder_has_no_head_and_what_a_text_needs_once_costs_nothing(tmp_path: Path) -> None:
    model = BertModel(
        BertConfig(vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    )
    model.save_pretrained(tmp_path)
    assert products(tmp_path) == Products(linear_parameters(model.encoder), 0)
