"""`--kv-cache-dtype int8` beside keys and values as they are: attention of long contexts, whole steps, and accuracy.

    taskset -c 0,1 env OMP_NUM_THREADS=2 python -m benchmarks.kv_cache [MODEL] [--rounds 5] [--out]

Attention is that of decodes over as many layers in turn as it takes to leave the last-level cache, as a model does;
both forms take turns. `of_read_bound` compares the bytes of keys and values with what reading alone reaches in the same
run. With MODEL, a folder, whole steps of it are timed as well, without server and scheduler. Accuracy is that of the
demo model on a fixed text, as benchmarks/quantization.py asks it, and `errors` are those of attention itself: the
root mean square of the difference from attention over what the model computed, as a share of its own size, also for
float8_e4m3fn without and with a scale for each token and head; of plain numbers, and of keys in which one number is
far larger than the others, as models with biases of keys have them. `--out` writes
benchmarks/results/kv-cache-<date>-<commit>.json.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer

from benchmarks import limits
from benchmarks.attention import BLOCK, batch_of
from benchmarks.quantization import QUESTIONS_PER_TOPIC, SEED, logits_of, request
from benchmarks.result_file import write_result
from specserve.engine.attention.backend import LayerCache, LayerSpec
from specserve.engine.attention.cpu import CpuBackend
from specserve.engine.attention.rounded_rows import restore, store, to_float8
from specserve.engine.batch import ScheduledBatch
from specserve.engine.config import CacheConfig, EngineConfig, ModelConfig
from specserve.engine.runner.model_runner import ModelRunner
from specserve.handlers.demo import checkpoint_path
from specserve.handlers.demo.training.check import questions
from specserve.handlers.demo.training.dialogues import TOPICS
from specserve.handlers.demo.training.tokens import encode as encode_samples

FORMS: dict[str, torch.dtype | None] = {"auto": None, "int8": torch.int8}
HEADS = [(14, 2, 64), (32, 8, 64), (16, 8, 128), (32, 8, 128)]
"""(query heads, key-value heads, head size) of Qwen2.5-0.5B, Llama 3.2 1B, Qwen3 0.6B and Llama 3 8B."""
CONTEXT, BATCHES = 8192, (1, 8)
TOTAL_BYTES = 256 << 20
"""Of keys and values in bfloat16, over all layers: eight times the last-level cache."""
STEPS = [(1, 8192), (8, 8192), (8, 1040)]
"""(sequences, context) of decodes of whole models."""
KINDS = {"plain": 0.0, "40 added to one number": 40.0, "200 added to one number": 200.0}
"""What is added to one number of every key, whose others are of size 1: as biases of keys do."""
PREFILL = [(512, 512), (512, 8192)]


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Layers:
    """Decodes over one layer after the other, each with keys and values of its own."""

    def __init__(self, heads: tuple[int, int, int], batch: int, cache_dtype: torch.dtype | None) -> None:
        num_heads, kv_heads, size = heads
        spec = LayerSpec(num_heads, kv_heads, size, size, torch.bfloat16, size**-0.5, cache_dtype=cache_dtype)
        self.backend = CpuBackend([spec], torch.device("cpu"), BLOCK)
        plain_bytes = batch * CONTEXT * kv_heads * size * 4
        self.count = max(1, TOTAL_BYTES // plain_bytes)
        step = batch_of(1, CONTEXT, batch)
        self.bytes = self.backend.bytes_per_block() * step.block_tables.numel()
        self.caches: list[LayerCache] = []
        whole = batch_of(CONTEXT, CONTEXT, batch)
        self.backend.allocate(step.block_tables.numel())
        self.backend.plan(whole)
        for _ in range(self.count):
            (cache,) = self.backend.allocate(step.block_tables.numel())
            key = torch.randn(batch * CONTEXT, kv_heads, size, dtype=torch.bfloat16)
            self.backend.write_kv(0, key, key.flip(0), cache)
            self.caches.append(cache)
        self.backend.plan(step)
        self.query = torch.randn(batch, num_heads, size, dtype=torch.bfloat16)

    def attend(self) -> None:
        for cache in self.caches:
            self.backend.attend(0, self.query, cache)


def attention(rounds: int, read_gb_s: float) -> list[dict[str, Any]]:
    found = []
    for heads in HEADS:
        for batch in BATCHES:
            layers = {form: Layers(heads, batch, dtype) for form, dtype in FORMS.items()}
            times: dict[str, list[float]] = {form: [] for form in FORMS}
            for each in layers.values():
                each.attend()
            for _ in range(rounds):
                for form, each in layers.items():
                    times[form].append(seconds_of(each.attend) / each.count)
            plain = statistics.median(times["auto"])
            for form, each in layers.items():
                middle = statistics.median(times[form])
                line: dict[str, Any] = {"heads": heads[:2], "head_size": heads[2], "batch": batch, "context": CONTEXT}
                line |= {"form": form, "mib": round(each.bytes / 2**20, 2), "us": round(middle * 1e6, 1)}
                line |= {"us_least": round(min(times[form]) * 1e6, 1), "gb_s": round(each.bytes / middle / 1e9, 1)}
                line |= {"times_auto": round(plain / middle, 2)}
                line |= {"of_read_bound": round(each.bytes / middle / 1e9 / read_gb_s, 2)}
                found.append(line)
                print(json.dumps(line), flush=True)
    return found


def load(path: str, form: str, max_model_len: int, num_blocks: int) -> ModelRunner:
    config = EngineConfig(
        model=ModelConfig(path=path, device="cpu", max_model_len=max_model_len),
        cache=CacheConfig(num_blocks=num_blocks, block_size=BLOCK, dtype=form),
    )
    return ModelRunner.load(config, lambda phase, done: None)


def steps(model: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of whole steps. All sequences lie in blocks of their own; what is in them does not matter."""
    width = (CONTEXT + 512) // BLOCK + 1
    loaded = {form: load(model, form, CONTEXT + 600, 8 * width + 2) for form in FORMS}
    cases = {}
    for batch, context in STEPS:
        rows = [request(f"r{at}", context, 1, 1 + at * width) for at in range(batch)]
        cases[f"decode {batch} at {context}"] = ScheduledBatch(rows, batch)
    for tokens, context in PREFILL:
        cases[f"prefill {tokens} at {context}"] = ScheduledBatch([request("p", context - tokens, tokens, 1)], tokens)
    times: dict[str, dict[str, list[float]]] = {form: {case: [] for case in cases} for form in FORMS}
    for turn in range(rounds + 1):
        for case, batch_of_case in cases.items():
            for form, runner in loaded.items():
                taken = seconds_of(lambda runner=runner, batch=batch_of_case: runner.execute(batch))  # type: ignore[misc]
                if turn:
                    times[form][case].append(taken)
    found: dict[str, Any] = {}
    for form, runner in loaded.items():
        found[form] = {"notes": [note for note in runner.info.notes if "KV cache" in note]}
        for case in cases:
            middle = statistics.median(times[form][case])
            found[form][case] = {
                "ms": round(middle * 1e3, 2),
                "ms_least": round(min(times[form][case]) * 1e3, 2),
                "times_auto": round(statistics.median(times["auto"][case]) / middle, 2),
            }
        print(json.dumps({form: found[form]}), flush=True)
    return found


def accuracy() -> dict[str, Any]:
    folder = str(checkpoint_path())
    items = [item for topic in TOPICS for item in questions(topic, True, QUESTIONS_PER_TOPIC, SEED)]
    samples = encode_samples(items, AutoTokenizer.from_pretrained(folder))
    wanted = torch.cat([torch.tensor(ids[1:])[torch.tensor(learnt[1:])] for ids, learnt in samples])
    found: dict[str, Any] = {"tokens": len(wanted)}
    plain: Tensor | None = None
    for form in FORMS:
        logits = torch.cat(logits_of(load(folder, form, 2048, 512), samples))
        plain = logits if plain is None else plain
        lost = F.kl_div(logits.log_softmax(-1), plain.log_softmax(-1), reduction="batchmean", log_target=True)
        found[form] = {
            "perplexity": round(math.exp(float(F.cross_entropy(logits, wanted))), 5),
            "same_choice": round(float((logits.argmax(-1) == plain.argmax(-1)).float().mean()), 5),
            "divergence": round(float(lost), 6),
        }
        print(json.dumps({form: found[form]}), flush=True)
    return found


def kept(rows: Tensor, are_keys: bool) -> Tensor:
    stored = store(rows, torch.int8, are_keys=are_keys)
    return restore(stored, rows.shape[-1], torch.int8, torch.float32, are_keys=are_keys)


def scaled_float8(rows: Tensor) -> Tensor:
    scale = rows.abs().amax(-1, keepdim=True) / 448
    return to_float8(rows / scale).float() * scale


def errors() -> dict[str, Any]:
    ways: dict[str, Callable[[Tensor, bool], Tensor]] = {
        "bfloat16": lambda rows, are_keys: rows.bfloat16().float(),
        "int8": lambda rows, are_keys: kept(rows, are_keys),
        "int8, keys not turned": lambda rows, are_keys: kept(rows, False),
        "float8_e4m3fn": lambda rows, are_keys: to_float8(rows).float(),
        "float8_e4m3fn, scaled": lambda rows, are_keys: scaled_float8(rows),
    }
    found: dict[str, Any] = {}
    for size in (64, 128):
        for kind in KINDS:
            generator = torch.Generator().manual_seed(size)
            query, key, value = (torch.randn(16, 1024, size, generator=generator) for _ in range(3))
            key[..., 3] += KINDS[kind]
            exact = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            lost = {name: _attended(query, way(key, True), way(value, False)) - exact for name, way in ways.items()}
            found[f"{kind}, heads of {size}"] = {
                name: round(float(each.norm() / exact.norm()), 5) for name, each in lost.items()
            }
    print(json.dumps(found), flush=True)
    return found


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a folder; its steps are timed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-accuracy", action="store_true", help="speed only")
    parser.add_argument("--out", action="store_true", help="write a result file")
    arguments = parser.parse_args()
    with torch.inference_mode():
        before = limits.measure()
        print(json.dumps({"limits": before}), flush=True)
        found: dict[str, Any] = {"limits_before": before, "attention": attention(arguments.rounds, before["read_gb_s"])}
        if arguments.model:
            found["steps"] = steps(arguments.model, arguments.rounds)
        found["limits_after"] = limits.measure()
        if not arguments.skip_accuracy:
            found |= {"accuracy": accuracy(), "errors": errors()}
    if arguments.out:
        print(write_result("kv-cache", vars(arguments), found))


if __name__ == "__main__":
    main()
