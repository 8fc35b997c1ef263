"""The step whose memory is measured is one that a backend can compute, and as long as steps get."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_checkpoints import load_runner, write_checkpoint

from specserve.engine.runner.gpu_memory import longest_step

CPU = torch.device("cpu")


@pytest.mark.parametrize(("num_tokens", "max_model_len", "lengths"), [(300, 128, [128, 128, 44]), (64, 4096, [64])])
def test_it_has_whole_prompts_and_a_rest(num_tokens: int, max_model_len: int, lengths: list[int]) -> None:
    step = longest_step(num_tokens, max_model_len, 16, CPU)
    step.attention.check(16)
    assert step.attention.query_lens == lengths
    assert step.token_ids.shape == step.positions.shape == (1, num_tokens)
    assert int(step.positions.max()) == max(lengths) - 1


@torch.inference_mode()
def test_a_backend_computes_it_and_writes_nothing(tmp_path: Path) -> None:
    runner = load_runner(write_checkpoint("llama", tmp_path, torch.float32), "reference")
    caches = runner._backend.allocate(2)
    runner._forward.bind(caches)
    step = longest_step(150, 100, runner.info.block_size, CPU)
    runner._backend.plan(step.attention)
    logits = runner._forward(step, None, torch.zeros(3, dtype=torch.int64))
    assert logits.shape == (3, runner.info.vocab_size)
    assert all(not cache.keys.any() and not cache.values.any() for cache in caches)
