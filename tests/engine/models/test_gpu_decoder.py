"""The lean decoder of GPUs, its kernels in Triton's interpreter: logits and text are those of transformers."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import VOCAB_SIZE, batch_of, generate, load_runner, oracle, request_of, write_checkpoint

from specserve.engine.params import SamplingParams
from specserve.engine.runner.forward import CapturableForward

pytestmark = pytest.mark.interpreted

KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama with biases": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "llama of odd sizes": {"vocab_size": 201, "head_dim": 48, "intermediate_size": 80},
    "mistral": {},
    "qwen2": {},
    "qwen2_window": {},
    "qwen3": {},
}
LENGTHS = [37, 61, 5]
STEPS = [[20, 0, 4], [16, 40, 0], [1, 1, 1], [0, 20, 0]]


def sequences() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist() for length in LENGTHS]


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_checkpoint(request.param.split()[0], tmp_path, torch.float32, **KINDS[request.param])


@torch.inference_mode()
def test_logits_are_those_of_transformers(folder: Path) -> None:
    """In chunks, mixed steps and decodes."""
    runner = load_runner(folder, "triton")
    assert any("GPU decoder" in note for note in runner.info.notes)
    exact = oracle(folder)
    width = -(-max(LENGTHS) // runner.info.block_size)
    tables = [[1 + row * width + column for column in range(width)] for row in range(len(LENGTHS))]
    requests = [request_of(f"r{at}", ids, tables[at]) for at, ids in enumerate(sequences())]
    done = [0] * len(requests)
    wanted = [exact(input_ids=torch.tensor([ids]), use_cache=False).logits[0] for ids in sequences()]
    for counts in STEPS:
        order = sorted((at for at, count in enumerate(counts) if count), key=lambda at: counts[at] != 1)
        logits = runner.logits(batch_of(*((requests[at], done[at], counts[at]) for at in order)))
        for at, found in zip(order, logits.split([counts[at] for at in order]), strict=True):
            torch.testing.assert_close(found, wanted[at][done[at] : done[at] + counts[at]], atol=2e-4, rtol=2e-4)
            done[at] += counts[at]


@torch.inference_mode()
def test_one_row_by_our_own_products_gives_the_same_logits(folder: Path) -> None:
    runner = load_runner(folder, "triton")
    timings = count()  # what is timed later is faster: the last tile is chosen for every shape
    forward = runner._forward
    assert isinstance(forward, CapturableForward)
    assert "by a kernel of our own" in forward.tune(lambda work: 0.5 ** next(timings))[0]
    ids = sequences()[0]
    request = request_of("r", ids, [1 + column for column in range(-(-len(ids) // runner.info.block_size))])
    exact = oracle(folder)(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    runner.logits(batch_of((request, 0, len(ids) - 1)))
    last = runner.logits(batch_of((request, len(ids) - 1, 1)))
    torch.testing.assert_close(last[0], exact[-1], atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_text_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    folder = write_checkpoint(name, tmp_path, torch.float32)
    params = [SamplingParams(max_tokens=6, temperature=0.0, ignore_eos=True)] * len(LENGTHS)
    found = generate(load_runner(folder, "triton"), sequences(), params, token_budget=40)
    for ids, answer in zip(sequences(), found, strict=True):
        out = oracle(folder).generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False)
        assert answer == out[0, len(ids) :].tolist()


def test_what_does_not_fit_runs_through_transformers(tmp_path: Path) -> None:
    runner = load_runner(write_checkpoint("gpt2", tmp_path, torch.float32), "triton")
    assert not any("GPU decoder" in note for note in runner.info.notes)
