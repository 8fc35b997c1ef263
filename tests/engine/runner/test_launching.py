"""Steps left to a device, with a stand-in for graphs on a CPU: the answers are those of the engine that waits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gathered_attention import GatheredBackend
from recorded_ops import RecordedOps
from tiny_checkpoints import VOCAB_SIZE, load_runner, write_checkpoint

from specserve.engine.api import GenerationRequest
from specserve.engine.attention import select
from specserve.engine.batch import ScheduledBatch, ScheduledRequest
from specserve.engine.core import EngineCore
from specserve.engine.kernels import rms_norm, rotary_write, silu_mul
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.models import gpu_decoder
from specserve.engine.params import SamplingParams
from specserve.engine.registry import LazyRegistry
from specserve.engine.request import Request
from specserve.engine.runner.cuda_graphs import DecodeGraphs
from specserve.engine.runner.launching import DecodeLauncher, LaunchedStep
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.sampling.metadata import SamplingMetadata
from specserve.engine.sampling.sampler import NOT_FINITE, Sampler
from specserve.engine.scheduler import Scheduler

CPU = torch.device("cpu")
WISHES = {
    "greedy": {"temperature": 0.0},
    "plain": {"temperature": 1.0, "seed": 3},
    "unseeded": {"temperature": 0.9},
    "min_p": {"temperature": 1.0, "min_p": 0.1, "seed": 5},
    "top_k": {"temperature": 0.8, "top_k": 12, "seed": 1},
    "top_p": {"temperature": 1.2, "top_p": 0.7, "seed": 2},
    "penalised": {"temperature": 1.0, "presence_penalty": 0.5, "seed": 4},
    "logprobs": {"temperature": 0.0, "logprobs": 2},
    "min_tokens": {"temperature": 0.0, "min_tokens": 4},
}


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelRunner:
    """The decoder of GPUs with the kernels' twins."""
    monkeypatch.setattr(gpu_decoder, "rms_norm", rms_norm.rms_norm_torch)
    monkeypatch.setattr(gpu_decoder, "add_rms_norm", rms_norm.add_rms_norm_torch)
    monkeypatch.setattr(gpu_decoder, "rotary_write", rotary_write.rotary_write_torch)
    monkeypatch.setattr(gpu_decoder, "silu_mul", silu_mul.silu_mul_torch)
    monkeypatch.setattr(select, "BACKENDS", LazyRegistry({"triton": f"{GatheredBackend.__module__}:GatheredBackend"}))
    return load_runner(write_checkpoint("qwen3", tmp_path, torch.float32), "triton")


class CountingLauncher(DecodeLauncher):
    num_launched = 0
    num_ahead = 0

    def launch(self, batch, after):  # type: ignore[no-untyped-def]
        launched = super().launch(batch, after)
        self.num_launched += launched is not None
        self.num_ahead += after is not None
        return launched


def answers(
    runner: ModelRunner, wishes: list[dict[str, float]], launcher: DecodeLauncher | None
) -> dict[str, list[int]]:
    core = EngineCore(
        Scheduler(
            KVCacheManager(48, runner.info.block_size),
            max_num_seqs=8,
            max_num_batched_tokens=64,
            max_model_len=runner.info.max_model_len,
        ),
        runner,
        launcher=launcher,
    )
    generator = torch.Generator().manual_seed(9)
    found: dict[str, list[int]] = {}
    for at, wish in enumerate(wishes):
        prompt = torch.randint(3, VOCAB_SIZE, (5 + 3 * at,), generator=generator).tolist()
        params = SamplingParams(**{"max_tokens": 6 + 2 * at, "ignore_eos": True, **wish})
        core.add([GenerationRequest(request_id=f"r{at}", prompt_token_ids=prompt, params=params)])
        found[f"r{at}"] = []
        for item in core.step():
            found[item.request_id] += item.token_ids
    while core.has_requests:
        for item in core.step():
            assert item.error is None
            found[item.request_id] += item.token_ids
    return found


def launcher_of(runner: ModelRunner, seed: int = 0) -> CountingLauncher:
    graphs = DecodeGraphs(
        runner._forward.decode,
        runner._backend,
        RecordedOps(),
        CPU,
        max_num_seqs=8,
        max_model_len=runner.info.max_model_len,
    )
    return CountingLauncher(graphs, Sampler(seed), ())


@pytest.mark.parametrize("kind", WISHES)
def test_answers_are_those_of_the_engine_that_waits(kind: str, runner: ModelRunner) -> None:
    launcher = launcher_of(runner)
    wishes = [WISHES[kind]] * 4
    assert answers(runner, wishes, launcher) == answers(runner, wishes, None)
    is_simple = kind not in ("penalised", "logprobs")
    assert (launcher.num_ahead > 0) == is_simple


def test_answers_of_a_mixed_batch(runner: ModelRunner) -> None:
    """Whoever needs the host's help takes the others along; when those have ended, steps are launched again."""
    launcher = launcher_of(runner)
    wishes = [WISHES[kind] for kind in ("penalised", "logprobs", "greedy", "top_k", "top_p", "plain")]
    assert answers(runner, wishes, launcher) == answers(runner, wishes, None)
    assert launcher.num_ahead > 0


def test_a_row_that_is_not_finite_fails_alone() -> None:
    logits = torch.randn(3, 100)
    best = logits.argmax(-1).tolist()
    logits[1, 7] = float("nan")
    requests = [Request(f"r{at}", SamplingParams(max_tokens=3, temperature=0.0), [1, 2], 2) for at in range(3)]
    token_ids, finite = Sampler().choose(logits, SamplingMetadata.of(requests))
    batch = ScheduledBatch([ScheduledRequest(request, 1, 1, True) for request in requests], 3)
    output = LaunchedStep(batch, token_ids, finite).result()
    assert output.failed == {"r1": NOT_FINITE}
    assert {at: token.token_id for at, token in output.sampled.items()} == {"r0": best[0], "r2": best[2]}
