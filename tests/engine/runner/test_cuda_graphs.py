"""Captured decode steps, with a stand-in for graphs on a CPU: any batch gives what the eager step gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gathered_attention import GatheredBackend
from recorded_ops import RecordedOps
from tiny_checkpoints import VOCAB_SIZE, batch_of, load_runner, oracle, request_of, write_checkpoint

from specserve.engine.attention import select
from specserve.engine.kernels import rms_norm, rotary_write, silu_mul
from specserve.engine.models import gpu_decoder
from specserve.engine.registry import LazyRegistry
from specserve.engine.runner.cuda_graphs import DecodeGraphs
from specserve.engine.runner.launching import DecodeLauncher
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.sampling.sampler import Sampler

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder of GPUs with the kernels' twins."""
    monkeypatch.setattr(gpu_decoder, "rms_norm", rms_norm.rms_norm_torch)
    monkeypatch.setattr(gpu_decoder, "add_rms_norm", rms_norm.add_rms_norm_torch)
    monkeypatch.setattr(gpu_decoder, "rotary_write", rotary_write.rotary_write_torch)
    monkeypatch.setattr(gpu_decoder, "silu_mul", silu_mul.silu_mul_torch)
    registry = LazyRegistry({"triton": f"{GatheredBackend.__module__}:GatheredBackend"})
    monkeypatch.setattr(select, "BACKENDS", registry)


def graphs_of(runner: ModelRunner, recorder: RecordedOps) -> DecodeGraphs:
    return DecodeGraphs(
        runner._forward.decode, runner._backend, recorder, CPU, max_num_seqs=16, max_model_len=runner.info.max_model_len
    )


@torch.inference_mode()
@pytest.mark.parametrize("name", ["llama", "mistral", "qwen3", "gpt2", "phi3", "olmo2", "gemma3_text"])
def test_replayed_steps_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """Of the lean decoder, and of models that run through transformers' modules.

    Five sequences decode in batches of changing size and order, two of them leaving and coming back.
    """
    folder = write_checkpoint(name, tmp_path, torch.float32)
    runner, recorder = load_runner(folder, "triton"), RecordedOps()
    graphs, exact = graphs_of(runner, recorder), oracle(folder)
    generator = torch.Generator().manual_seed(3)
    sequences = [torch.randint(3, VOCAB_SIZE, (30,), generator=generator).tolist() for _ in range(5)]
    width = -(-30 // runner.info.block_size)
    order = (torch.randperm(47, generator=generator) + 1).tolist()
    requests = []
    for at, ids in enumerate(sequences):
        table = [order.pop() for _ in range(width)]
        prompt = request_of(f"r{at}", ids[: 10 + at], table)
        runner.logits(batch_of((prompt, 0, 10 + at)))
        requests.append(request_of(f"r{at}", ids, table))
    done = [10 + at for at in range(5)]
    wanted = [exact(input_ids=torch.tensor([ids]), use_cache=False).logits[0] for ids in sequences]
    for rows in ([0, 1, 2], [2, 0, 1], [0, 1, 2, 3, 4], [4, 3], [1], [3, 1, 0, 4], [2], [0, 1, 2, 3, 4]):
        batch = batch_of(*((requests[row], done[row], 1) for row in rows))
        found = graphs.logits(batch.requests)
        for row, logits in zip(rows, found, strict=True):
            torch.testing.assert_close(logits, wanted[row][done[row]], atol=2e-4, rtol=2e-4)
            done[row] += 1
    assert recorder.num_recorded == graphs.num_captured == 4  # batches of 4, 8, 2 and 1
    assert recorder.num_replayed == 8


@torch.inference_mode()
def test_a_token_that_only_the_device_knows_is_read_there(tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path, torch.float32)
    runner = load_runner(folder, "triton")
    graphs = graphs_of(runner, RecordedOps())
    ids, table = list(range(3, 14)), [5, 6, 7]
    runner.logits(batch_of((request_of("r", ids[:10], table), 0, 10)))
    known = batch_of((request_of("r", ids, table), 10, 1))
    wanted = graphs.logits(known.requests).clone()
    unknown = batch_of((request_of("r", ids[:10], table), 10, 1))
    found = graphs.logits(unknown.requests, torch.tensor([ids[10]]))
    assert torch.equal(found, wanted)


def test_a_model_that_cannot_be_captured_is_served_without_graphs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = load_runner(write_checkpoint("gpt2", tmp_path, torch.float32), "triton")
    honest = runner._forward.decode
    runner._forward.decode = lambda ids, positions: honest(ids, positions) * float(ids.sum())
    runner._graphs = graphs_of(runner, RecordedOps())
    runner.launcher = DecodeLauncher(runner._graphs, Sampler(), ())
    runner.warm_up()
    assert "decode steps are not captured in CUDA graphs: RuntimeError" in caplog.text
    assert runner.launcher is None
    request = request_of("r", [5, 6, 7], [1])
    assert runner.execute(batch_of((request, 0, 3))).sampled["r"].token_id >= 0


def test_a_step_that_looks_at_the_device_is_found_out() -> None:
    values = torch.tensor([1.0, 2.0])

    def step() -> torch.Tensor:
        return values * float(values.sum())

    with pytest.raises(RuntimeError, match="waits for the device"):
        RecordedOps().record(step)
