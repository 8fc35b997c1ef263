"""What constraints cost: steps of 32 sequences with and without masks, on the 0.5B-shaped checkpoint.

    taskset -c 0,1 env OMP_NUM_THREADS=2 python -m benchmarks.structured [--root .models] [--out]

The whole engine without processes: scheduler, forward pass, sampler. A machine's speed changes by more, from one second
to the next, than masks cost. So each step with constraints is measured next to one without, of 32 other sequences with
the same sampling, one after the other and in turns first: `overhead` is the median of their ratios less one, with the
quartiles beside it, and `free` against `free` shows what is left of noise. `step_ms` and `free_ms` are medians.
`mask_cpu_ms` is what filling all masks costs by itself.
Random weights agree with a grammar only by chance, models that were trained for it nearly always. The scenarios with an
agreement simulate such a model: before each step one token per row is drawn, in 95 of 100 cases out of those its
grammar accepts, else out of all, and its logit is raised so far that it has nearly all probability. The time which that
takes is not counted.
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
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.models import checkpoint
from benchmarks.run import commit, cpu_name
from specserve.engine.api import GenerationRequest
from specserve.engine.batch import ScheduledBatch, StepOutput
from specserve.engine.config import CacheConfig, EngineConfig, ModelConfig, SchedulerConfig
from specserve.engine.core import EngineCore
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.store import GrammarStore
from specserve.engine.grammars.vocabulary import Vocabulary
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.runner.inputs import StepInputs
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.scheduler import Scheduler
from specserve.engine.tokenizer import load_tokenizer

RESULTS = Path(__file__).parent / "results"
ROWS = 32
NUM_BLOCKS = 1200
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


@dataclass(frozen=True)
class Scenario:
    """`kinds` are the constraints of the rows."""

    kinds: Sequence[str | None]
    sampling: str = "temperature 1"
    agreement: float | None = None


SAMPLING: dict[str, dict[str, Any]] = {
    "temperature 1": {},
    "temperature 0": {"temperature": 0.0},
    "top_k 20, top_p 0.8": {"temperature": 0.7, "top_k": 20, "top_p": 0.8},
}
AGREEMENT = 0.95
RAISED = 30.0
WARM_UP = 2
SCENARIOS: dict[str, Scenario] = {
    **{f"free, {name}": Scenario([None] * ROWS, name) for name in SAMPLING},
    **{name: Scenario([name] * ROWS) for name in CONSTRAINTS},
    "schema on every other row": Scenario([None, "schema"] * (ROWS // 2)),
    "schema, temperature 0": Scenario(["schema"] * ROWS, "temperature 0"),
    "schema, top_k 20, top_p 0.8": Scenario(["schema"] * ROWS, "top_k 20, top_p 0.8"),
    "schema, agreement": Scenario(["schema"] * ROWS, agreement=AGREEMENT),
    "pattern, agreement": Scenario(["pattern"] * ROWS, agreement=AGREEMENT),
    "counted pattern, agreement": Scenario(["counted pattern"] * ROWS, agreement=AGREEMENT),
    "schema, agreement, top_k 20, top_p 0.8": Scenario(["schema"] * ROWS, "top_k 20, top_p 0.8", AGREEMENT),
}


@dataclass
class Steps:
    """Pairs of neighbours in time: a step with constraints, and one without."""

    seconds: list[float] = field(default_factory=list)
    free_seconds: list[float] = field(default_factory=list)
    mask_seconds: list[float] = field(default_factory=list)


class Sequences(NamedTuple):
    """32 running ones, and the model that they are decoded with."""

    core: EngineCore
    scheduler: Scheduler
    agreement: float | None


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


class AgreeingModel:
    """A runner whose favourite tokens are mostly ones that the grammars accept."""

    def __init__(self, runner: ModelRunner) -> None:
        self.agreement: float | None = None
        self.seconds = 0.0
        self._runner = runner
        self._forward = runner._forward
        self._favourites: dict[str, int] = {}
        self._dice = random.Random(0)
        runner._forward = self._logits  # type: ignore[assignment]

    def execute(self, batch: ScheduledBatch) -> StepOutput:
        begin = time.perf_counter()
        self._favourites = {}
        if self.agreement is not None:
            for scheduled in batch.requests:
                self._favourites[scheduled.request.request_id] = self._favourite(scheduled.request)
        self.seconds += time.perf_counter() - begin
        return self._runner.execute(batch)

    def _favourite(self, request: Request) -> int:
        vocab_size, ends = self._runner.info.vocab_size, self._runner.info.eos_token_ids
        drawn = self._dice.randrange(vocab_size)
        if request.matcher is None or self._dice.random() > (self.agreement or 0.0):
            return drawn
        for _ in range(64):
            if drawn not in ends and request.matcher.validate_tokens([drawn]):
                return drawn
            drawn = self._dice.randrange(vocab_size)
        mask = np.frombuffer(request.matcher.deep_copy().compute_bitmask(), dtype=np.uint8)
        allowed = np.flatnonzero(np.unpackbits(mask, bitorder="little"))
        return int(self._dice.choice([token_id for token_id in allowed if token_id not in ends]))

    def _logits(
        self, inputs: StepInputs, embeddings: Tensor | None, rows: Tensor, *, only_highest: bool = False
    ) -> Tensor:
        """All logits in every step, also where free greedy rows want the highest only: masks are what is measured."""
        logits = self._forward(inputs, embeddings, rows)
        if self._favourites:
            begin = time.perf_counter()
            favourites = torch.tensor([self._favourites[request.request_id] for request in inputs.sampling])
            logits[torch.arange(len(favourites)), favourites] += RAISED
            self.seconds += time.perf_counter() - begin
        return logits


class Bench:
    def __init__(self, root: Path) -> None:
        folder = checkpoint("large", root)
        config = EngineConfig(
            model=ModelConfig(path=str(folder), dtype="bfloat16", device="cpu", max_model_len=512),
            cache=CacheConfig(num_blocks=NUM_BLOCKS),
            scheduler=SchedulerConfig(max_num_seqs=ROWS),
        )
        self.runner = ModelRunner.load(config, lambda phase, done: None)
        self.model = AgreeingModel(self.runner)
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

    def start(self, scenario: Scenario, cache: KVCacheManager) -> Sequences:
        """Prefill, and the first decode step."""
        info = self.runner.info
        scheduler = Scheduler(
            cache,
            max_num_seqs=ROWS,
            max_num_batched_tokens=2048,
            max_model_len=info.max_model_len,
            eos_token_ids=info.eos_token_ids,
        )
        core = EngineCore(scheduler, self.model, self.store)
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
                    **SAMPLING[scenario.sampling],
                ),
            )
            for row, kind in enumerate(scenario.kinds)
        ]
        self.model.agreement = scenario.agreement
        core.add(requests)
        while core.stats().num_running < ROWS or core.is_stalled:
            core.step()
        core.step()
        return Sequences(core, scheduler, scenario.agreement)

    def step(self, sequences: Sequences) -> float:
        """Seconds of one step of all rows."""
        self.model.agreement = sequences.agreement
        begin, before = time.perf_counter(), self.model.seconds
        gained = sequences.core.step()
        seconds = time.perf_counter() - begin - (self.model.seconds - before)
        if len(gained) != ROWS or any(progress.finish_reason or progress.error for progress in gained):
            raise RuntimeError(f"a sequence ended early: {gained}")
        return seconds

    def round(self, scenario: Scenario, num_steps: int, steps: Steps) -> None:
        """`num_steps` decode steps of sequences with the scenario's constraints, each beside one without."""
        cache = KVCacheManager(NUM_BLOCKS, self.runner.info.block_size, enable_prefix_caching=False)
        constrained = self.start(scenario, cache)
        free = self.start(Scenario([None] * ROWS, scenario.sampling, scenario.agreement), cache)
        for _ in range(WARM_UP):
            self.step(free)
            self.step(constrained)
        for number in range(num_steps):
            if number % 2:
                steps.seconds.append(self.step(constrained))
            steps.free_seconds.append(self.step(free))
            if not number % 2:
                steps.seconds.append(self.step(constrained))
        matchers = [request.matcher for request in constrained.scheduler._running if request.matcher]
        if matchers:
            begin = time.perf_counter()
            for matcher in matchers:
                matcher.compute_bitmask()
            steps.mask_seconds.append(time.perf_counter() - begin)
        for sequences in (constrained, free):
            sequences.core.abort([request.request_id for request in sequences.scheduler._running])


def figures(steps: Steps) -> dict[str, Any]:
    ratios = [step / free - 1 for step, free in zip(steps.seconds, steps.free_seconds, strict=True)]
    quarter, median, three_quarters = statistics.quantiles(ratios, n=4)
    found: dict[str, Any] = {
        "step_ms": round(statistics.median(steps.seconds) * 1e3, 2),
        "free_ms": round(statistics.median(steps.free_seconds) * 1e3, 2),
        "pairs": len(ratios),
        "overhead": round(median, 4),
        "overhead_quartiles": [round(quarter, 4), round(three_quarters, 4)],
    }
    if steps.mask_seconds:
        found["mask_cpu_ms"] = round(statistics.mean(steps.mask_seconds) * 1e3, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(".models"), help="where checkpoints are, or are made")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24, help="pairs of one round of one scenario")
    parser.add_argument("--only", default="", help="scenarios with this in their name")
    parser.add_argument("--out", action="store_true", help="write a result file")
    arguments = parser.parse_args()
    bench = Bench(arguments.root)
    chosen = {name: scenario for name, scenario in SCENARIOS.items() if arguments.only in name}
    steps = {name: Steps() for name in chosen}
    for _ in range(arguments.rounds):
        for name, scenario in chosen.items():
            bench.round(scenario, arguments.steps, steps[name])
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
        "scenarios": {name: figures(found) for name, found in steps.items()},
    }
    print(json.dumps(report, indent=1))
    if arguments.out:
        path = RESULTS / f"structured-{report['date'][:10]}-{commit()}.json"  # type: ignore[index]
        path.write_text(json.dumps(report, indent=1) + "\n")
        print(path)


if __name__ == "__main__":
    main()
