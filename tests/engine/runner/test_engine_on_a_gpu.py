"""The engine on a GPU that is pretended: tokens are those of a CPU, and no operator gets tensors of both devices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pretended_gpu import OnGpu, pretended_gpu
from tiny_checkpoints import VOCAB_SIZE, generate, load_runner, write_checkpoint

from specserve.engine.api import GenerationRequest
from specserve.engine.core import EngineCore
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.params import SamplingParams
from specserve.engine.scheduler import Scheduler

pytestmark = pytest.mark.interpreted

WISHES = (
    SamplingParams(max_tokens=6, temperature=0.0, ignore_eos=True),
    SamplingParams(max_tokens=6, temperature=0.8, top_k=20, top_p=0.9, min_p=0.02, seed=3, ignore_eos=True),
    SamplingParams(max_tokens=6, temperature=0.9, top_p=0.7, seed=4, ignore_eos=True),
    SamplingParams(
        max_tokens=6, temperature=0.7, presence_penalty=0.5, frequency_penalty=0.3, repetition_penalty=1.2, seed=1
    ),
    SamplingParams(max_tokens=6, temperature=0.0, logprobs=3, prompt_logprobs=2),
    SamplingParams(max_tokens=6, temperature=1.0, logit_bias={5: 3.0}, min_tokens=3, seed=5),
    SamplingParams(max_tokens=4, temperature=0.5, logprobs=0, seed=9),
)
"""A row for each way through the sampler."""
PLAIN = [each for each in WISHES if each.logprobs is None and each.ignore_eos]
"""What a device samples by itself."""


def prompts(count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, VOCAB_SIZE, (20 + 9 * at,), generator=generator).tolist() for at in range(count)]


@pytest.mark.parametrize(
    "name", ["llama", "gemma2", "gpt2", "opt", "phi3_window", "cohere2", "qwen3_moe", "gpt_oss", "deepseek_v3"]
)
def test_every_wish_gets_the_tokens_of_a_cpu(name: str, tmp_path: Path) -> None:
    folder = write_checkpoint(name, tmp_path, torch.float32)
    wanted = generate(load_runner(folder, "reference"), prompts(len(WISHES)), list(WISHES))
    with pretended_gpu():
        runner = load_runner(folder, "reference", device="cuda")
        runner.warm_up()
        found = generate(runner, prompts(len(WISHES)), list(WISHES))
    assert found == wanted


@pytest.mark.parametrize(("name", "backend"), [("llama", "xformers"), ("qwen3", "triton")])
def test_the_lean_decoder_a_step_ahead_gives_the_tokens_of_a_cpu(name: str, backend: str, tmp_path: Path) -> None:
    folder = write_checkpoint(name, tmp_path, torch.float32)
    wanted = generate(load_runner(folder, "reference"), prompts(len(PLAIN)), PLAIN)
    with pretended_gpu():
        # As many tokens are computed to measure the memory of a step, here by the interpreter.
        runner = load_runner(folder, backend, device="cuda", max_num_batched_tokens=64)
        assert any("GPU decoder" in note for note in runner.info.notes)
        assert runner.launcher is not None
        scheduler = Scheduler(
            KVCacheManager(48, runner.info.block_size), max_num_seqs=8, max_num_batched_tokens=32, max_model_len=128
        )
        core = EngineCore(scheduler, runner, launcher=runner.launcher)
        requests = [
            GenerationRequest(request_id=str(at), prompt_token_ids=ids, params=params)
            for at, (ids, params) in enumerate(zip(prompts(len(PLAIN)), PLAIN, strict=True))
        ]
        core.add(requests)
        found: dict[str, list[int]] = {request.request_id: [] for request in requests}
        while core.has_requests:
            for item in core.step():
                assert item.error is None
                found[item.request_id] += item.token_ids
    assert list(found.values()) == wanted


def test_tensors_of_both_devices_do_not_mix() -> None:
    with pretended_gpu():
        there, here = torch.ones(2, 3, device="cuda"), torch.ones(2, 3)
        assert isinstance(there, OnGpu)
        assert there.device == torch.device("cuda", 0)
        with pytest.raises(RuntimeError, match=r"aten.add.Tensor got tensors on cuda:0 and, of shapes \[\(2, 3\)\]"):
            there + here
        here.fill_(5)
        moved = here.to("cuda")
        here.zero_()  # what was copied does not follow
        assert (there + moved).cpu().tolist() == [[6.0] * 3] * 2
        with pytest.raises(TypeError, match="to numpy"):
            there.numpy()
