"""What one decode step on a GPU costs the host before the device can start: schedule, inputs, plan. No GPU needed.

    python -m benchmarks.gpu_step [--out]

Tensors are on the CPU, so copies and launches count as what they cost there. 64 sequences of about 2000 tokens in
blocks of 64, a model of the 7B shape; both backends. `--out` writes benchmarks/results/gpu-step-<date>-<commit>.json.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.run import commit, cpu_name
from benchmarks.timing import Figures, figures
from specserve.engine.attention.backend import LayerSpec
from specserve.engine.attention.select import load_backend
from specserve.engine.batch import SampledToken, ScheduledBatch, StepOutput
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.runner.decode_rows import DecodeRows
from specserve.engine.sampling.metadata import SamplingMetadata
from specserve.engine.sampling.uniforms import uniforms
from specserve.engine.scheduler import Scheduler

RESULTS = Path(__file__).parent / "results"
BATCH, CONTEXT, BLOCK, WIDTH = 64, 2000, 64, 128
LAYERS = [LayerSpec(28, 4, 128, 128, torch.bfloat16, 128**-0.5)] * 28
STEPS = 500
PARTS = ("schedule", "inputs", "plan", "before", "sampling", "update")


def prefilled() -> Scheduler:
    """A scheduler whose sequences all decode."""
    scheduler = Scheduler(
        KVCacheManager(BATCH * 70, BLOCK),
        max_num_seqs=BATCH,
        max_num_batched_tokens=BATCH * (CONTEXT + BATCH),
        max_model_len=WIDTH * BLOCK,
    )
    requests = []
    for at in range(BATCH):
        prompt = [(7 * at + token) % 1000 for token in range(CONTEXT + at)]
        params = SamplingParams(max_tokens=2 * STEPS, temperature=0.8, seed=at)
        requests.append(Request(f"r{at}", params, prompt, len(prompt)))
    scheduler.add(requests)
    batch = scheduler.schedule()
    scheduler.update(batch, sampled(batch))
    return scheduler


def sampled(batch: ScheduledBatch) -> StepOutput:
    return StepOutput(sampled={item.request.request_id: SampledToken(5) for item in batch.requests})


def measure(backend_name: str) -> dict[str, Figures]:
    backend_class, reason = load_backend(backend_name)
    if backend_class is None:
        raise SystemExit(reason)
    device = torch.device("cpu")
    backend, scheduler, rows = (
        backend_class(LAYERS, device, BLOCK),
        prefilled(),
        DecodeRows(BATCH, WIDTH, BLOCK, device),
    )
    taken: dict[str, list[float]] = {
        name: [] for name in ("schedule", "inputs", "plan", "before", "sampling", "update")
    }
    for _ in range(STEPS):
        began = perf_counter()
        batch = scheduler.schedule()
        scheduled = perf_counter()
        step = rows.fill(batch.requests)
        filled = perf_counter()
        backend.plan(step)
        planned = perf_counter()
        uniforms(SamplingMetadata.of([item.request for item in batch.requests]).requests, 0)
        drawn = perf_counter()
        output = sampled(batch)
        ready = perf_counter()
        scheduler.update(batch, output)
        ended = perf_counter()
        parts = (
            scheduled - began,
            filled - scheduled,
            planned - filled,
            planned - began,
            drawn - planned,
            ended - ready,
        )
        for name, seconds in zip(taken, parts, strict=True):
            taken[name].append(seconds)
    return {name: figures(seconds) for name, seconds in taken.items()}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", action="store_true", help="write the result into benchmarks/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    now = datetime.now(UTC)
    result: dict[str, Any] = {
        "date": now.isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": {"cpu": cpu_name()},
        "unit": "microseconds; `before` is schedule, inputs and plan together",
        **{name: measure(name) for name in ("xformers", "triton")},
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        (RESULTS / f"gpu-step-{now:%Y-%m-%d}-{commit()}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
