"""What the engine reaches on one NVIDIA GPU beside what the card reaches: bandwidth, FLOPs, and transformers.

    python -m benchmarks.gpu [--out] [--budget SECONDS]

Sections, in this order, each cut short when the budget runs out (what was not measured is listed, not left out):

limits      copy bandwidth and bfloat16 GEMM throughput of the card, measured in the same minutes
attention   decode attention of a 7B shape for batches × contexts, GB/s of keys and values and their share of the copy
            bandwidth; prefill TFLOP/s; both for every paged backend
engine      tokens a second of the whole engine (scheduler, graphs, sampling; no HTTP) for models of the shapes of
            Qwen2.5-0.5B and 7B with random weights at several concurrencies; at one sequence the share of the bound
            set by reading weights and cache once for each token
peer        transformers' continuous batching on the same folder at concurrency 32

`--out` writes benchmarks/results/gpu-<date>-<commit>.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig, Qwen2Config

from benchmarks.models import CONFIGS
from benchmarks.run import commit, cpu_name
from specserve.engine.api import GenerationRequest
from specserve.engine.attention.backend import AttentionBackend, AttentionMetadata, LayerSpec
from specserve.engine.attention.select import load_backend
from specserve.engine.config import EngineConfig, ModelConfig, SchedulerConfig
from specserve.engine.core import EngineCore
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.params import SamplingParams
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.scheduler import Scheduler

RESULTS = Path(__file__).parent / "results"
BACKENDS = ("xformers", "triton")
BATCHES, CONTEXTS = (1, 8, 32, 64, 128), (1024, 4096, 32768)
PREFILLS = (2048, 8192, 16384)
CONCURRENCIES = (1, 32, 128)
PROMPT, ANSWER = 128, 128
BLOCK = 64


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


@dataclass
class Stopwatch:
    """Times work on a device; a CPU has no events."""

    device: torch.device
    tries: int = 20

    def seconds(self, work: Callable[[], object]) -> float:
        """Median of `tries` runs, each waited for, after three that warm up."""
        for _ in range(3):
            work()
        taken = []
        for _ in range(self.tries):
            if self.device.type == "cuda":
                before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
                before.record()
                work()
                after.record()
                after.synchronize()
                taken.append(before.elapsed_time(after) / 1e3)
            else:
                began = time.perf_counter()
                work()
                taken.append(time.perf_counter() - began)
        return statistics.median(taken)


class Budget:
    """Seconds the whole run may take; what it does not allow is kept by name."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self.left_out: list[str] = []

    def allows(self, *names: str, needs_s: float = 3.0) -> bool:
        if time.monotonic() + needs_s <= self._until:
            return True
        self.left_out.append(" · ".join(names))
        return False


def limits(watch: Stopwatch, size: int = 1 << 30, side: int = 8192) -> dict[str, float]:
    """GB/s of a copy, reads and writes counted; TFLOP/s of a square product."""
    source = torch.ones(size, dtype=torch.uint8, device=watch.device)
    target = torch.empty_like(source)
    x, y = (torch.randn(side, side, device=watch.device, dtype=torch.bfloat16) for _ in range(2))
    return {
        "copy_gb_s": round(2 * size / 1e9 / watch.seconds(lambda: target.copy_(source)), 1),
        "gemm_tflop_s": round(2 * side**3 / 1e12 / watch.seconds(lambda: x @ y), 4),
    }


def batch_of(query_lens: Sequence[int], seq_lens: Sequence[int], device: torch.device) -> tuple[AttentionMetadata, int]:
    """Sequences with blocks in random order, and the number of blocks."""
    blocks = [-(-length // BLOCK) for length in seq_lens]
    order = torch.randperm(sum(blocks), generator=torch.Generator().manual_seed(0)).to(torch.int32)
    tables = torch.zeros(len(blocks), max(blocks), dtype=torch.int32)
    slots, first = [], 0
    for row, (count, query_len, seq_len) in enumerate(zip(blocks, query_lens, seq_lens, strict=True)):
        tables[row, :count] = order[first : first + count]
        position = torch.arange(seq_len - query_len, seq_len)
        slots.append(tables[row, position // BLOCK].long() * BLOCK + position % BLOCK)
        first += count
    decodes = len(query_lens) if all(length == 1 for length in query_lens) else 0
    step = AttentionMetadata(
        query_start=torch.tensor([0, *query_lens]).cumsum(0).to(device, torch.int32),
        seq_lens=torch.tensor(seq_lens, dtype=torch.int32, device=device),
        block_tables=tables.to(device),
        slot_mapping=torch.cat(slots).to(device),
        num_decodes=decodes,
        query_lens=list(query_lens),
        seq_lens_list=list(seq_lens),
    )
    return step, sum(blocks)


def prepared(
    backend_class: type[AttentionBackend],
    spec: LayerSpec,
    step: AttentionMetadata,
    num_blocks: int,
    device: torch.device,
) -> Callable[[], Tensor]:
    """One layer's attention of the planned step."""
    backend = backend_class([spec], device, BLOCK)
    cache = backend.allocate(num_blocks)[0]
    cache.keys.normal_()
    cache.values.normal_()
    query = torch.randn(sum(step.query_lens), spec.num_heads, spec.head_size, device=device, dtype=spec.dtype)
    backend.plan(step)
    return lambda: backend.attend(0, query, cache)


def captured(work: Callable[[], Tensor], device: torch.device) -> Callable[[], object]:
    """As a graph, as it is served: launches would hide what the kernel takes."""
    if device.type != "cuda":
        return work
    for _ in range(2):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def attention(
    watch: Stopwatch, spec: LayerSpec, found_limits: dict[str, float], budget: Budget, names: Sequence[str] = BACKENDS
) -> dict[str, Any]:
    device = watch.device
    found: dict[str, Any] = {}
    for name in names:
        backend, reason = load_backend(name)
        refusal = reason if backend is None else backend.refuses([spec], device, BLOCK)
        if backend is None or refusal is not None:
            found[name] = {"refused": refusal}
            continue
        rows: dict[str, Any] = {}
        for batch in BATCHES:
            for context in CONTEXTS:
                key = f"decode batch {batch} context {context}"
                if not budget.allows(key, name):
                    continue
                step, num_blocks = batch_of([1] * batch, [context] * batch, device)
                seconds = watch.seconds(captured(prepared(backend, spec, step, num_blocks, device), device))
                gb = 2 * batch * context * spec.num_kv_heads * spec.head_size * spec.dtype.itemsize / 1e9
                rate = gb / seconds
                rows[key] = {
                    "us": round(seconds * 1e6, 1),
                    "gb_s": round(rate, 1),
                    "share_of_copy": round(rate / found_limits["copy_gb_s"], 3),
                }
        for length in PREFILLS:
            key = f"prefill {length}"
            if not budget.allows(key, name):
                continue
            step, num_blocks = batch_of([length], [length], device)
            seconds = watch.seconds(prepared(backend, spec, step, num_blocks, device))
            flop = 4 * spec.num_heads * spec.head_size * length * (length + 1) / 2
            rows[key] = {
                "us": round(seconds * 1e6, 1),
                "tflop_s": round(flop / 1e12 / seconds, 1),
                "share_of_gemm": round(flop / 1e12 / seconds / found_limits["gemm_tflop_s"], 3),
            }
        found[name] = rows
    return found


def write_folder(config: PretrainedConfig, folder: Path, device: torch.device) -> None:
    """A checkpoint of random weights, made on the device, whose end token is never likely."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.generation_config = GenerationConfig(do_sample=False)
    model.save_pretrained(folder, max_shard_size="4GB")
    del model
    if device.type == "cuda":
        torch.cuda.empty_cache()


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
    found: dict[str, Any] = {"notes": list(runner.info.notes), "backend": runner.info.attention_backend}
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


def continuous_batching(folder: Path, device: torch.device, concurrency: int) -> dict[str, float]:
    """transformers' own, with the fastest attention it finds; the same work as `generated`."""
    model = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa").to(device).eval()
    )
    generator = torch.Generator().manual_seed(concurrency)
    inputs = [
        torch.randint(0, model.config.vocab_size, (PROMPT,), generator=generator).tolist()
        for _ in range(2 * concurrency)
    ]
    wanted = GenerationConfig(max_new_tokens=ANSWER, do_sample=False, eos_token_id=-1, pad_token_id=0)
    model.generate_batch(inputs=inputs[:2], generation_config=wanted, progress_bar=False)
    began = time.perf_counter()
    answers = model.generate_batch(inputs=inputs, generation_config=wanted, progress_bar=False)
    seconds = time.perf_counter() - began
    tokens = sum(len(answer.generated_tokens) for answer in answers.values())
    return {"output_tok_s": round(tokens / seconds, 1), "tokens": tokens}


def versions() -> dict[str, str]:
    names = ("torch", "triton", "xformers", "transformers")
    found: Iterator[tuple[str, str]] = ((name, _version(name)) for name in names)
    return dict(found)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


@torch.inference_mode()
def measure(device: torch.device, budget: Budget, root: Path) -> dict[str, Any]:
    watch = Stopwatch(device)
    found: dict[str, Any] = {"limits": limits(watch)}
    spec = LayerSpec(28, 4, 128, 128, torch.bfloat16, 128**-0.5)
    found["attention"] = attention(watch, spec, found["limits"], budget)
    for name, make in SHAPES.items():
        folder = root / name
        if not budget.allows("engine", name, needs_s=60):
            continue
        write_folder(make(), folder, device)
        found[f"engine {name}"] = engine(folder, device, found["limits"], budget)
        torch.cuda.empty_cache()
        if budget.allows("peer", name, needs_s=40):
            try:
                found[f"transformers {name}"] = continuous_batching(folder, device, 32)
            except Exception as error:  # what it takes changes from release to release
                found[f"transformers {name}"] = {"failed": f"{type(error).__name__}: {error}"[:300]}
            torch.cuda.empty_cache()
    if (root / "7B").exists() and budget.allows("engine", "7B", "fp8", needs_s=40):
        found["engine 7B fp8"] = engine(root / "7B", device, found["limits"], budget, "fp8")
    found["left_out"] = budget.left_out
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", action="store_true", help="write the result into benchmarks/results")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds the whole run may take")
    parser.add_argument("--folder", help="where checkpoints are written (20 GB). Default: a temporary one")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} finds no NVIDIA GPU, and there is nothing to measure without one")
    now, device = datetime.now(UTC), torch.device("cuda", torch.cuda.current_device())
    with tempfile.TemporaryDirectory(dir=arguments.folder) as root:
        found = measure(device, Budget(arguments.budget), Path(root))
    result = {
        "date": now.isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": {"gpu": torch.cuda.get_device_name(device), "cpu": cpu_name(), "python": platform.python_version()},
        "versions": versions(),
        **found,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        (RESULTS / f"gpu-{now:%Y-%m-%d}-{commit()}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
