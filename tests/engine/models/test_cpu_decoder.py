"""The lean decoder stays as close to exact arithmetic as transformers in bfloat16 does, in every kind of step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import VOCAB_SIZE, batch_of, generate, load_runner, oracle, request_of, write_checkpoint

from specserve.engine.models import cpu_decoder, cpu_linear
from specserve.engine.models.quantization import Quantization
from specserve.engine.native.library import KernelUnavailableError
from specserve.engine.params import SamplingParams
from specserve.engine.runner.model_runner import ModelRunner

LENGTHS = [37, 61, 5, 90]
STEPS = [[20, 0, 4, 77], [16, 40, 1, 0], [0, 21, 0, 12], [1, 0, 0, 1]]
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama with biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "llama of odd sizes": {"model_type": "llama", "vocab_size": 201, "head_dim": 48, "intermediate_size": 80},
    "llama scaled": {
        "model_type": "llama",
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "mistral": {},
    "qwen2": {},
    "qwen2_window": {},
    "qwen3": {},
}


pytestmark = pytest.mark.usefixtures("bfloat16_kernel")


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name = request.param.split()[0]
    return write_checkpoint(name, tmp_path_factory.mktemp(name), torch.bfloat16, **KINDS[request.param])


def sequences() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist() for length in LENGTHS]


def logits_of(runner: ModelRunner) -> list[torch.Tensor]:
    """Those of every token, computed in `STEPS`."""
    scattered = torch.randperm(47, generator=torch.Generator().manual_seed(2)) + 1
    width = -(-max(LENGTHS) // runner.info.block_size)
    tables = scattered[: len(LENGTHS) * width].view(len(LENGTHS), width).tolist()
    requests = [
        request_of(f"r{at}", ids, table) for at, (ids, table) in enumerate(zip(sequences(), tables, strict=True))
    ]
    done = [0] * len(requests)
    pieces: list[list[torch.Tensor]] = [[] for _ in requests]
    for counts in STEPS:
        order = sorted((at for at, count in enumerate(counts) if count), key=lambda at: counts[at] != 1)
        logits = runner.logits(batch_of(*((requests[at], done[at], counts[at]) for at in order)))
        for at, got in zip(order, logits.split([counts[at] for at in order]), strict=True):
            pieces[at].append(got)
            done[at] += counts[at]
    return [torch.cat(piece) for piece in pieces]


@torch.inference_mode()
def test_logits_are_as_exact_as_those_of_transformers(folder: Path) -> None:
    runner = load_runner(folder, "cpu")
    assert any("CPU decoder" in note for note in runner.info.notes)
    exact, rounded = oracle(folder, torch.float32), oracle(folder, torch.bfloat16)
    for ids, got in zip(sequences(), logits_of(runner), strict=True):
        truth = exact(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        theirs = rounded(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
        assert got.dtype == torch.float32
        assert truth.std() > 0.2, "the checkpoint's logits are too alike to compare"
        assert (got - truth).pow(2).mean() < 1.5 * (theirs - truth).pow(2).mean()


def test_logits_do_not_depend_on_chunks_and_batches_by_a_bit(folder: Path) -> None:
    """Sums of a row are taken in one order, whatever rows are computed beside it."""
    runner = load_runner(folder, "cpu")
    for ids, mixed in zip(sequences(), logits_of(runner), strict=True):
        alone = runner.logits(batch_of((request_of("alone", ids, list(range(1, 9))), 0, len(ids))))
        assert torch.equal(alone, mixed)


def test_text_of_long_contexts_does_not_depend_on_anything_beside_it(tmp_path: Path) -> None:
    """Contexts of several parts: alone, together, in chunks, preempted, on one thread and on three."""
    runner = load_runner(
        write_checkpoint("llama", tmp_path, torch.bfloat16, max_position_embeddings=2048),
        "cpu",
        max_model_len=1600,
        num_blocks=300,
    )
    prompts = [list(range(3, 3 + 190)) * 6, list(range(20, 60)) * 16, [7, 8, 9]]
    params = [SamplingParams(max_tokens=40, temperature=0.0, ignore_eos=True, logprobs=3)] * len(prompts)
    threads = torch.get_num_threads()
    alone = [generate(runner, [ids], params[:1], token_budget=2048, num_blocks=300)[0] for ids in prompts]
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            for budget, blocks in ((2048, 300), (100, 300), (512, 119)):
                assert generate(runner, prompts, params, token_budget=budget, num_blocks=blocks) == alone
    finally:
        torch.set_num_threads(threads)


def test_what_does_not_fit_runs_through_transformers(tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path, torch.bfloat16, hidden_act="gelu")
    runner = load_runner(folder, "cpu")
    assert not any("CPU decoder" in note for note in runner.info.notes)
    model = oracle(folder, torch.bfloat16)
    assert "gelu" in str(cpu_decoder.misfit(model, [], Quantization()))


def test_the_variable_turns_the_decoder_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECSERVE_CPU_ISA", "avx2")
    runner = load_runner(write_checkpoint("llama", tmp_path, torch.bfloat16), "cpu")
    assert not any("CPU decoder" in note for note in runner.info.notes)


def test_a_failing_self_test_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_linear, "SELF_TEST_TOLERANCE", 0.0)
    with pytest.raises(KernelUnavailableError, match="off by"):
        cpu_linear.self_test()
