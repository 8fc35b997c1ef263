"""Any decoder computes the same through our attention as in transformers: logits and greedy text."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import SERVED, VOCAB_SIZE, batch_of, generate, load_runner, oracle, request_of

from specserve.engine.params import SamplingParams
from specserve.engine.runner.model_runner import ModelRunner

LENGTHS = [37, 61, 5, 20]
STEPS = [
    # tokens of each sequence per step: chunked prefill, then decodes mixed with chunks
    [20, 0, 4, 7],
    [16, 40, 1, 0],
    [0, 21, 0, 12],
    [1, 0, 0, 1],
]
NUM_NEW = 6
TOLERANCE = 2e-4
"""float32 rounding in sums taken in another order; logits of these models are of size 1 to 20."""
Folder = Callable[[str], Path]


def sequences() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist() for length in LENGTHS]


@cache
def runner_of(folder: Path, backend: str) -> ModelRunner:
    return load_runner(folder, backend)


@cache
def oracle_of(folder: Path) -> torch.nn.Module:
    return oracle(folder)


def largest_error(runner: ModelRunner, expected: list[torch.Tensor]) -> float:
    """Compute `STEPS` and compare the logits of every token."""
    scattered = torch.randperm(47, generator=torch.Generator().manual_seed(2)) + 1
    width = -(-max(LENGTHS) // runner.info.block_size)
    tables = scattered[: len(LENGTHS) * width].view(len(LENGTHS), width).tolist()
    requests = [
        request_of(f"r{at}", ids, table) for at, (ids, table) in enumerate(zip(sequences(), tables, strict=True))
    ]
    done = [0] * len(requests)
    worst = 0.0
    for counts in STEPS:
        order = sorted((at for at, count in enumerate(counts) if count), key=lambda at: counts[at] != 1)
        logits = runner.logits(batch_of(*((requests[at], done[at], counts[at]) for at in order)))
        for at, got in zip(order, logits.split([counts[at] for at in order]), strict=True):
            want = expected[at][done[at] : done[at] + counts[at]]
            worst = max(worst, float((got - want).abs().max()))
            done[at] += counts[at]
    assert done == LENGTHS
    return worst


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@torch.inference_mode()
def test_logits_of_mixed_batches_equal_those_of_whole_sequences(name: str, backend: str, checkpoint: Folder) -> None:
    model = oracle_of(checkpoint(name))
    expected = [model(input_ids=torch.tensor([ids]), use_cache=False).logits[0] for ids in sequences()]
    spread = min(float(logits.std()) for logits in expected)
    assert spread > 0.2, "the checkpoint's logits are too alike to compare"
    assert largest_error(runner_of(checkpoint(name), backend), expected) < TOLERANCE


@pytest.mark.parametrize("name", SERVED)
def test_greedy_text_equals_that_of_generate(name: str, checkpoint: Folder) -> None:
    model = oracle_of(checkpoint(name))
    expected = [
        model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids)),
            do_sample=False,
            max_new_tokens=NUM_NEW,
        )[0, len(ids) :].tolist()
        for ids in sequences()
    ]
    params = SamplingParams(max_tokens=NUM_NEW, temperature=0.0, ignore_eos=True)
    got = generate(runner_of(checkpoint(name), "cpu"), sequences(), [params] * len(LENGTHS))
    assert got == expected
