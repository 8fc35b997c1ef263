"""What the engine reaches on one NVIDIA GPU beside what the card reaches: bandwidth, FLOPs, and transformers.

    python -m benchmarks.gpu [--out] [--budget SECONDS]

Sections, in this order, each cut short when the budget runs out (what was not measured is listed, not left out):

limits      copy bandwidth and bfloat16 GEMM throughput of the card, measured in the same minutes
attention   decode attention of a 7B shape for batches × contexts, layer after layer as in a step: GB/s of keys and
            values and their share of the copy bandwidth; prefill TFLOP/s; both for every paged backend
engine      tokens a second of the whole engine (scheduler, graphs, sampling; no HTTP) for models of the shapes of
            Qwen2.5-0.5B and 7B with random weights at several concurrencies; at one sequence the share of the bound
            set by reading weights and cache once for each token
peer        transformers' continuous batching on the same folder at concurrency 32

`--out` writes benchmarks/results/gpu-<date>-<commit>.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig, Qwen2Config

from benchmarks.gpu_attention import attention
from benchmarks.gpu_peer import continuous_batching
from benchmarks.gpu_timing import Budget, Sections, Stopwatch, limits, release, report, the_gpu
from benchmarks.models import CONFIGS
from specserve.engine.api import GenerationRequest
from specserve.engine.attention.backend import LayerSpec
from specserve.engine.config import EngineConfig, ModelConfig, SchedulerConfig
from specserve.engine.core import EngineCore
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.params import SamplingParams
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.scheduler import Scheduler

CONCURRENCIES = (1, 32, 128)
PROMPT, ANSWER = 128, 128


def qwen2_7b() -> PretrainedConfig:
    """The shape of Qwen2.5-7B."""
    return Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        max_position_embeddings=32768,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )


SHAPES: dict[str, Callable[[], PretrainedConfig]] = {"0.5B": CONFIGS["large"], "7B": qwen2_7b}


def write_folder(config: PretrainedConfig, folder: Path, device: torch.device) -> None:
    """A checkpoint of random weights, made on the device, whose end token is never likely."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.generation_config = GenerationConfig(do_sample=False)
    model.save_pretrained(folder, max_shard_size="4GB")
    del model
    release()


def core_of(runner: ModelRunner, concurrency: int) -> EngineCore:
    scheduler = Scheduler(
        KVCacheManager(runner.info.num_blocks, runner.info.block_size, enable_prefix_caching=False),
        max_num_seqs=concurrency,
        max_num_batched_tokens=runner.max_num_batched_tokens,
        max_model_len=runner.info.max_model_len,
    )
    return EngineCore(scheduler, runner, launcher=runner.launcher)


def generated(runner: ModelRunner, concurrency: int, prompt: int, answer: int, vocab_size: int) -> dict[str, float]:
    """Two requests for each place, all there from the beginning: output tokens a second, and the median decode step."""
    core = core_of(runner, concurrency)
    generator = torch.Generator().manual_seed(concurrency)
    requests = [
        GenerationRequest(
            request_id=f"r{at}",
            prompt_token_ids=torch.randint(0, vocab_size, (prompt,), generator=generator).tolist(),
            params=SamplingParams(max_tokens=answer, temperature=0.0, ignore_eos=True),
        )
        for at in range(2 * concurrency)
    ]
    began = time.perf_counter()
    core.add(requests)
    steps, tokens = [], 0
    while core.has_requests:
        before = time.perf_counter()
        gained = core.step()
        steps.append(time.perf_counter() - before)
        tokens += sum(len(item.token_ids) for item in gained)
        errors = [item.error for item in gained if item.error]
        if errors:
            raise RuntimeError(errors[0])
    seconds = time.perf_counter() - began
    return {"output_tok_s": round(tokens / seconds, 1), "median_step_ms": round(statistics.median(steps) * 1e3, 3)}


def engine(
    folder: Path, device: torch.device, found_limits: dict[str, float], budget: Budget, quantization: str = "none"
) -> dict[str, Any]:
    runner = ModelRunner.load(
        EngineConfig(
            model=ModelConfig(path=str(folder), device=device.type, max_model_len=2048, quantization=quantization),
            scheduler=SchedulerConfig(max_num_seqs=max(CONCURRENCIES)),
        ),
        lambda phase, done: None,
    )
    runner.warm_up()
    vocab_size = runner.info.vocab_size
    generated(runner, 1, PROMPT, 8, vocab_size)
    found: dict[str, Any] = {
        "notes": list(runner.info.notes),
        "backend": runner.info.attention_backend,
        "captured": runner.launcher is not None,
    }
    for concurrency in CONCURRENCIES:
        if budget.allows("engine", folder.name, quantization, f"concurrency {concurrency}", needs_s=20):
            found[f"concurrency {concurrency}"] = generated(runner, concurrency, PROMPT, ANSWER, vocab_size)
    if "concurrency 1" in found:
        read = weight_bytes(folder, quantization) + cache_bytes(folder, PROMPT + ANSWER / 2)
        bound_ms = read / found_limits["copy_gb_s"] / 1e6
        found["bound_ms_at_1"] = round(bound_ms, 3)
        found["share_of_bound_at_1"] = round(bound_ms / found["concurrency 1"]["median_step_ms"], 3)
    return found


def weight_bytes(folder: Path, quantization: str) -> int:
    """Bytes a decode step reads of the weights: all but the embedding table, of which it reads a row."""
    config = Qwen2Config.from_pretrained(folder)
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    heads = config.num_attention_heads + 2 * config.num_key_value_heads
    head_size = hidden // config.num_attention_heads
    per_layer = hidden * heads * head_size + hidden * hidden + 3 * hidden * inner
    return layers * per_layer * (1 if quantization == "fp8" else 2) + 2 * hidden * config.vocab_size


def cache_bytes(folder: Path, tokens: float) -> float:
    """Bytes of keys and values that a decode step of a sequence of so many tokens reads, in bfloat16."""
    config = Qwen2Config.from_pretrained(folder)
    head_size = config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * config.num_key_value_heads * head_size * 2 * tokens


@torch.inference_mode()
def measure(device: torch.device, budget: Budget, root: Path) -> dict[str, Any]:
    watch = Stopwatch(device)
    found = Sections(limits=limits(watch))
    spec = LayerSpec(28, 4, 128, 128, torch.bfloat16, 128**-0.5)
    found.add("attention", partial(attention, watch, spec, found["limits"], budget))
    for name, make in SHAPES.items():
        if budget.allows("engine", name, needs_s=60):
            found.add(f"folder {name}", partial(write_folder, make(), root / name, device))
            found.add(f"engine {name}", partial(engine, root / name, device, found["limits"], budget))
    if (root / "7B").exists() and budget.allows("engine", "7B", "fp8", needs_s=30):
        found.add("engine 7B fp8", partial(engine, root / "7B", device, found["limits"], budget, "fp8"))
    for name in SHAPES:  # last: a capture of theirs that fails leaves torch 2.11 unable to make another
        if (root / name).exists() and budget.allows("peer", name, needs_s=30):
            found.add(f"transformers {name}", partial(continuous_batching, root / name, device, 32, PROMPT, ANSWER))
    found["left_out"] = budget.left_out
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", action="store_true", help="write the result into benchmarks/results")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds the whole run may take")
    parser.add_argument("--folder", help="where checkpoints are written (20 GB). Default: a temporary one")
    arguments = parser.parse_args()
    began, device = datetime.now(UTC), the_gpu()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as root:
        found = measure(device, Budget(arguments.budget), Path(root))
    report("gpu", began, device, found, write=arguments.out)


if __name__ == "__main__":
    main()
