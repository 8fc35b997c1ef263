"""The GPU's benchmark on a CPU with tiny shapes: it runs to its end and counts what it says it counts."""

from __future__ import annotations

import json
import weakref
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Qwen2Config

from benchmarks import gpu, gpu_attention, gpu_timing
from benchmarks.gpu import engine, write_folder
from benchmarks.gpu_attention import attention, batch_of
from benchmarks.gpu_peer import continuous_batching
from benchmarks.gpu_timing import Budget, Sections, Stopwatch, limits, release, report, the_gpu
from specserve.engine.attention.backend import LayerSpec
from specserve.engine.runner.model_runner import ModelRunner

CPU = torch.device("cpu")
LIMITS = {"copy_gb_s": 10.0, "gemm_tflop_s": 0.1}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_attention, "BATCHES", (1, 3))
    monkeypatch.setattr(gpu_attention, "CONTEXTS", (70,))
    monkeypatch.setattr(gpu_attention, "PREFILLS", (80,))
    monkeypatch.setattr(gpu, "CONCURRENCIES", (1, 2))
    monkeypatch.setattr(gpu, "PROMPT", 10)
    monkeypatch.setattr(gpu, "ANSWER", 5)


def test_limits_are_rates() -> None:
    assert all(value > 0 for value in limits(Stopwatch(CPU, tries=9), size=1 << 20, side=256).values())


def test_attention_of_each_backend_is_measured_or_its_refusal_told() -> None:
    spec = LayerSpec(4, 2, 32, 32, torch.float32, 0.2)
    found = attention(Stopwatch(CPU, tries=1), spec, LIMITS, Budget(60), names=("reference", "xformers"))
    assert list(found["reference"]) == ["decode batch 1 context 70", "decode batch 3 context 70", "prefill 80"]
    row = found["reference"]["decode batch 3 context 70"]
    read = 2 * 3 * 70 * 2 * 32 * 4
    assert row["gb_s"] == pytest.approx(read / row["us"] / 1e3, rel=0.1, abs=0.1)
    assert found["xformers"]["refused"].startswith("it runs on NVIDIA GPUs")


def test_as_many_layers_are_read_in_turn_as_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = LayerSpec(28, 4, 128, 128, torch.bfloat16, 0.2)
    a_token = 2 * 4 * 128 * 2
    assert gpu_attention.layers_of(spec, 1000) == 28
    monkeypatch.setattr(gpu_attention, "CACHE_BYTES", 5 * 1000 * a_token)
    assert gpu_attention.layers_of(spec, 1000) == 5
    assert gpu_attention.layers_of(spec, 6000) == 1


def test_what_the_budget_does_not_allow_is_named() -> None:
    budget = Budget(0)
    spec = LayerSpec(4, 2, 32, 32, torch.float32, 0.2)
    assert attention(Stopwatch(CPU, tries=1), spec, LIMITS, budget, names=("reference",)) == {"reference": {}}
    assert budget.left_out[0] == "decode batch 1 context 70 · reference"


def test_a_batch_has_blocks_of_its_own() -> None:
    step, num_blocks = batch_of([1, 1], [130, 64], CPU)
    step.check(gpu_attention.BLOCK)
    assert num_blocks == 4
    assert len({*step.block_tables[0, :3].tolist(), int(step.block_tables[1, 0])}) == 4


def tiny_qwen2() -> Qwen2Config:
    return Qwen2Config(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )


@torch.inference_mode()
def test_the_peer_gives_all_its_tokens(tmp_path: Path) -> None:
    write_folder(tiny_qwen2(), tmp_path, CPU)
    found = continuous_batching(tmp_path, CPU, concurrency=2, prompt=10, answer=5)
    assert found["sdpa"]["tokens"] == 2 * 2 * 5
    assert found["sdpa"]["output_tok_s"] > 0


def test_a_section_that_fails_takes_no_other_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = Sections()
    found.add("first", lambda: 1 / 0)
    found.add("second", lambda: {"rate": 3})
    assert found == {"first": {"failed": "ZeroDivisionError: division by zero"}, "second": {"rate": 3}}
    assert '{"second": {"rate": 3}' in capsys.readouterr().out


def test_a_result_is_written_with_what_it_was_found_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_timing, "RESULTS", tmp_path)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    report("gpu", datetime(2026, 1, 2, tzinfo=UTC), CPU, {"rate": 3}, write=False)
    assert not list(tmp_path.iterdir())
    report("gpu", datetime(2026, 1, 2, tzinfo=UTC), CPU, {"rate": 3}, write=True)
    (written,) = tmp_path.iterdir()
    assert written.name.startswith("gpu-2026-01-02-")
    found = json.loads(written.read_text())
    assert (found["rate"], found["machine"]["gpu"]) == (3, "a card")
    assert torch.__version__.startswith(found["versions"]["torch"])


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="finds no NVIDIA GPU"):
        the_gpu()


def test_the_engine_generates_all_its_tokens_and_is_gone_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tiny_qwen2(), tmp_path, CPU)
    runners = []

    def loaded(*args: Any) -> ModelRunner:
        runner = ModelRunner.load(*args)
        runners.append(weakref.ref(runner))
        return runner

    monkeypatch.setattr(gpu, "ModelRunner", SimpleNamespace(load=loaded))
    found = engine(tmp_path, CPU, LIMITS, Budget(300))
    release()
    assert [runner() for runner in runners] == [None]
    assert found["concurrency 2"]["output_tok_s"] > 0
    weights = 2 * (64 * (4 + 2 * 2) * 16 + 64 * 64 + 3 * 64 * 96) * 2 + 2 * 64 * 300
    assert gpu.weight_bytes(tmp_path, "none") == weights
    cache = 2 * 2 * 2 * 16 * 2 * (10 + 5 / 2)
    assert gpu.cache_bytes(tmp_path, 10 + 5 / 2) == cache
    assert found["bound_ms_at_1"] == round((weights + cache) / 10.0 / 1e6, 3)
