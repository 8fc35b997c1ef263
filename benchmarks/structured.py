"""What constraints cost: steps of 32 sequences with and without masks, on the 0.5B-shaped checkpoint.

    taskset -c 0,1 env OMP_NUM_THREADS=2 python -m benchmarks.structured [--root .models] [--out]

The whole engine without processes: scheduler, forward pass, sampler. Rounds of the scenarios take turns, so that a
machine that is slower for a while is slower for all. `step_ms` is the median step, `overhead` what it takes more than
the one without constraints. `mask_cpu_ms` is what filling costs by itself; it runs beside the forward pass.
The checkpoint's tokenizer spells 32 000 of the 151 936 rows of logits; the others get spellings made of pieces of
those, so that the library's trie is as large as that of a vocabulary of this size.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import statistics
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch

from benchmarks.models import checkpoint
from benchmarks.run import commit, cpu_name
from specserve.engine.api import GenerationRequest
from specserve.engine.config import CacheConfig, EngineConfig, ModelConfig, SchedulerConfig
from specserve.engine.core import EngineCore
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.store import GrammarStore
from specserve.engine.grammars.vocabulary import Vocabulary
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.params import SamplingParams
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.scheduler import Scheduler
from specserve.engine.tokenizer import load_tokenizer

RESULTS = Path(__file__).parent / "results"
ROWS = 32
NUM_BLOCKS = 600
PROMPT = list(range(100, 132))
RECORD = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 8, "maxLength": 60},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "email": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 5},
        "kind": {"enum": ["person", "company", "other"]},
    },
    "required": ["name", "age", "email", "tags", "kind"],
    "additionalProperties": False,
}
ENDLESS = {"type": "array", "items": RECORD, "minItems": 1000}
CONSTRAINTS = {
    "schema": GrammarSpec(kind="json_schema", source=json.dumps(ENDLESS)),
    "json": GrammarSpec(kind="json_schema", source='{"type": "array", "minItems": 1000}'),
    "pattern": GrammarSpec(kind="regex", source="([a-z]+ ){1000}"),
    "counted pattern": GrammarSpec(kind="regex", source="([a-z ]{50,200}\\n){100}"),
}
SCENARIOS: dict[str, list[str | None]] = {
    "free": [None] * ROWS,
    **{name: [name] * ROWS for name in CONSTRAINTS},
    "schema on every other row": [None, "schema"] * (ROWS // 2),
}


@dataclass
class Steps:
    seconds: list[float] = field(default_factory=list)
    mask_seconds: list[float] = field(default_factory=list)


def full_vocabulary(folder: Path, vocab_size: int, eos_token_ids: tuple[int, ...]) -> Vocabulary:
    vocabulary = Vocabulary.of(load_tokenizer(folder), vocab_size, eos_token_ids)
    dice = random.Random(0)
    known = [spelled for spelled in vocabulary.tokens if spelled and not spelled.startswith(b"\xff")]
    seen, tokens = set(known), list(vocabulary.tokens)
    for token_id in [token_id for token_id, spelled in enumerate(tokens) if not spelled]:
        while (made := (dice.choice(known) + dice.choice(known).lstrip())[:16]) in seen:
            pass
        seen.add(made)
        tokens[token_id] = made
    return Vocabulary(tokens, vocabulary.eos_token_ids)


class Bench:
    def __init__(self, root: Path) -> None:
        folder = checkpoint("large", root)
        config = EngineConfig(
            model=ModelConfig(path=str(folder), dtype="bfloat16", device="cpu", max_model_len=512),
            cache=CacheConfig(num_blocks=NUM_BLOCKS),
            scheduler=SchedulerConfig(max_num_seqs=ROWS),
        )
        self.runner = ModelRunner.load(config, lambda phase, done: None)
        info = self.runner.info
        begin = time.perf_counter()
        vocabulary = full_vocabulary(folder, info.vocab_size, info.eos_token_ids)
        made = time.perf_counter()
        compiler = GrammarCompiler(vocabulary)
        self.index_s = time.perf_counter() - made
        self.vocabulary_s = made - begin
        self.store = GrammarStore(lambda: vocabulary)
        self.compile_ms: dict[str, float] = {}
        self.checked: dict[str, GrammarSpec] = {}
        for name, spec in CONSTRAINTS.items():
            self.checked[name] = compiler.check(spec)
            begin = time.perf_counter()
            compiler.compile(self.checked[name])
            self.compile_ms[name] = (time.perf_counter() - begin) * 1e3
        self._numbers = count()

    def round(self, kinds: list[str | None], num_steps: int, steps: Steps) -> None:
        """Prefill, then `num_steps` decode steps of all rows, timed."""
        info = self.runner.info
        scheduler = Scheduler(
            KVCacheManager(NUM_BLOCKS, info.block_size, enable_prefix_caching=False),
            max_num_seqs=ROWS,
            max_num_batched_tokens=2048,
            max_model_len=info.max_model_len,
            eos_token_ids=info.eos_token_ids,
        )
        core = EngineCore(scheduler, self.runner, self.store)
        number = next(self._numbers)
        requests = [
            GenerationRequest(
                request_id=f"{number}-{row}",
                prompt_token_ids=PROMPT,
                params=SamplingParams(
                    max_tokens=400,
                    seed=row,
                    ignore_eos=True,
                    grammar=None if kind is None else self.checked[kind],
                ),
            )
            for row, kind in enumerate(kinds)
        ]
        core.add(requests)
        while core.stats().num_running < ROWS or core.is_stalled:
            core.step()
        core.step()
        for _ in range(num_steps):
            begin = time.perf_counter()
            gained = core.step()
            steps.seconds.append(time.perf_counter() - begin)
            if len(gained) != ROWS or any(progress.finish_reason or progress.error for progress in gained):
                raise RuntimeError(f"a sequence ended early: {gained}")
        matchers = [scheduler_request.matcher for scheduler_request in scheduler._running if scheduler_request.matcher]
        if matchers:
            begin = time.perf_counter()
            for matcher in matchers:
                matcher.compute_bitmask()
            steps.mask_seconds.append(time.perf_counter() - begin)
        core.abort([request.request_id for request in requests])


def figures(steps: Steps, free: Steps) -> dict[str, Any]:
    median, plain = statistics.median(steps.seconds), statistics.median(free.seconds)
    ordered = sorted(steps.seconds)
    found: dict[str, Any] = {
        "step_ms": round(median * 1e3, 2),
        "p90_ms": round(ordered[len(ordered) * 9 // 10] * 1e3, 2),
        "steps": len(ordered),
        "overhead": round(median / plain - 1, 4),
    }
    if steps.mask_seconds:
        found["mask_cpu_ms"] = round(statistics.mean(steps.mask_seconds) * 1e3, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(".models"), help="where checkpoints are, or are made")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=16, help="of one round of one scenario")
    parser.add_argument("--out", action="store_true", help="write a result file")
    arguments = parser.parse_args()
    bench = Bench(arguments.root)
    steps = {name: Steps() for name in SCENARIOS}
    for number in range(arguments.rounds + 1):
        for name, kinds in SCENARIOS.items():
            bench.round(kinds, arguments.steps if number else 2, steps[name] if number else Steps())
    report = {
        "machine": {"cpu": cpu_name(), "cores": sorted(os.sched_getaffinity(0))},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "flags": {name: str(value) for name, value in vars(arguments).items()},
        "load_average": os.getloadavg(),
        "vocab_size": bench.runner.info.vocab_size,
        "vocabulary_s": round(bench.vocabulary_s, 3),
        "index_s": round(bench.index_s, 3),
        "compile_ms": {name: round(value, 2) for name, value in bench.compile_ms.items()},
        "scenarios": {name: figures(found, steps["free"]) for name, found in steps.items()},
    }
    print(json.dumps(report, indent=1))
    if arguments.out:
        path = RESULTS / f"structured-{report['date'][:10]}-{commit()}.json"  # type: ignore[index]
        path.write_text(json.dumps(report, indent=1) + "\n")
        print(path)


if __name__ == "__main__":
    main()
