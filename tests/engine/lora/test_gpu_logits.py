"""Adapters beside the lean decoder of GPUs, its kernels in Triton's interpreter: logits are those of PEFT."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft_adapters import EVERY_KIND, load, lora_runner, rows_of, with_adapter, write_adapter
from tiny_checkpoints import VOCAB_SIZE, batch_of, oracle, write_checkpoint

from specserve.engine.runner.cuda_graphs import DecodeGraphs

pytestmark = pytest.mark.interpreted

NAMES = ["everything", None, "by pattern", "head"]
LENGTHS = [9, 5, 12, 7]


@torch.inference_mode()
def test_logits_of_a_mixed_batch_are_those_of_peft(tmp_path: Path) -> None:
    base = write_checkpoint("llama", tmp_path / "base", torch.float32)
    folders = {
        name: write_adapter(base, tmp_path / name.split()[-1], seed=at, **EVERY_KIND[name])
        for at, name in enumerate(NAMES)
        if name is not None
    }
    runner = lora_runner(base, "triton")
    assert any("GPU decoder" in note for note in runner.info.notes)
    generator = torch.Generator().manual_seed(4)
    prompts = [torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist() for length in LENGTHS]
    requests = rows_of(NAMES, load(runner, folders), prompts)
    batch = batch_of(*((request, 0, request.num_tokens) for request in requests))
    for request, name, logits in zip(requests, NAMES, runner.logits(batch).split(LENGTHS), strict=True):
        model = oracle(base) if name is None else with_adapter(base, folders[name])
        want = model(input_ids=torch.tensor([request.token_ids])).logits[0]
        torch.testing.assert_close(logits, want, atol=2e-4, rtol=2e-4)
    assert not DecodeGraphs.holds(batch_of(*((request, request.num_tokens - 1, 1) for request in requests)))
