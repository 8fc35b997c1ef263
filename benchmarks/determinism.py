"""What `--deterministic` costs: steps with it and without, in turn.

    taskset -c 0,1 env OMP_NUM_THREADS=2 python -m benchmarks.determinism [--rounds 9] [--out]

Steps run in this process, without server and scheduler. `large` runs through the lean decoder, whose steps are the same
either way; the shape of GPT-2 (124 M parameters, random weights) runs through transformers' modules, in bfloat16 with
our products and in float32 with oneDNN's. `--out` writes benchmarks/results/determinism-<date>-<commit>.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.models import checkpoint
from benchmarks.quantization import BLOCK, DECODES, NUM_BLOCKS, PREFILL, decode, request, seconds_of
from benchmarks.result_file import write_result
from benchmarks.run import ROOT
from specserve.engine.batch import ScheduledBatch
from specserve.engine.config import CacheConfig, EngineConfig, ModelConfig
from specserve.engine.runner.model_runner import ModelRunner

MAX_MODEL_LEN = 1024


def load(path: Path, dtype: str, *, is_deterministic: bool) -> ModelRunner:
    config = EngineConfig(
        model=ModelConfig(path=str(path), device="cpu", max_model_len=MAX_MODEL_LEN, dtype=dtype),
        cache=CacheConfig(num_blocks=NUM_BLOCKS, block_size=BLOCK),
        deterministic=is_deterministic,
    )
    runner = ModelRunner.load(config, lambda phase, done: None)
    if runner.info.is_deterministic != is_deterministic:
        raise SystemExit(f"{path.name} in {dtype} is not what was asked for: {runner.info.notes}")
    return runner


def compare(path: Path, dtype: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of each kind of step: medians, and what the flag adds in percent."""
    runners = {name: load(path, dtype, is_deterministic=name == "on") for name in ("off", "on")}
    cases = {f"decode {rows}": (decode(rows), 5) for rows in DECODES}
    cases[f"prefill {PREFILL}"] = (ScheduledBatch([request("p", 0, PREFILL, 1)], PREFILL), 1)
    times: dict[str, dict[str, list[float]]] = {name: {case: [] for case in cases} for name in runners}
    for turn in range(rounds + 1):
        for case, (batch, steps) in cases.items():
            for name in sorted(runners, reverse=turn % 2 == 0):
                seconds = seconds_of(runners[name], batch, steps)
                if turn:  # nothing is measured that happens the first time
                    times[name][case].append(seconds)
    found = {}
    for case in cases:
        off, on = (statistics.median(times[name][case]) for name in ("off", "on"))
        changes = [b / a - 1 for a, b in zip(times["off"][case], times["on"][case], strict=True)]
        found[case] = {
            "off_ms": round(off * 1e3, 2),
            "on_ms": round(on * 1e3, 2),
            "percent": round(100 * statistics.median(changes), 1),
        }
    print(json.dumps({f"{path.name} {dtype}": found}), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--models", default="large bfloat16,gpt2 bfloat16,gpt2 float32")
    parser.add_argument("--out", action="store_true", help="write a result file")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for wanted in arguments.models.split(","):
            name, dtype = wanted.split()
            path = Path(folder) / name
            if name == "gpt2" and not path.exists():
                torch.manual_seed(0)
                GPT2LMHeadModel(GPT2Config()).bfloat16().save_pretrained(path)
            found[wanted] = compare(
                path if name == "gpt2" else checkpoint(name, ROOT / ".models"), dtype, arguments.rounds
            )
    if arguments.out:
        print(write_result("determinism", vars(arguments), {"steps": found}))


if __name__ == "__main__":
    main()
