"""`--speculative-config` beside none: tokens per second by how much an answer repeats its prompt, and by load.

    OMP_NUM_THREADS=2 python -m benchmarks.speculative MODEL [--at-once 1 8] [--out]

The model's weights may be random: what it computes is timed, and what it says is given. Each answer copies its prompt
from some place on; every token goes on with probability p (`copies`), else comes one that the prompt does not have,
and a jump elsewhere. `mixed` has requests of all kinds at once. The logit of the given token is raised before it is
sampled. Drafts, their verification, scheduler and cache are the real ones, so acceptance is what the n-gram index
finds. Steps run in this process, without server; prompts are in the prefix cache. All forms take turns step by step,
so that what disturbs one disturbs the others. A drafter lives as long as a server's would: what it learns in the
first round, which is not timed, it knows in the others. A round ends for a form when it has so many tokens in all, and
before any request does, so that the number of requests stays. Prints a table; `--out` writes
benchmarks/results/speculative-<date>-<commit>.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from itertools import cycle, islice
from operator import truediv
from typing import Any

from torch import Tensor

from benchmarks import limits
from benchmarks.result_file import write_result
from specserve.engine.api import GenerationRequest
from specserve.engine.batch import ScheduledBatch, ScheduledRequest
from specserve.engine.config import CacheConfig, EngineConfig, ModelConfig, SpeculativeConfig
from specserve.engine.core import EngineCore
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.runner.inputs import StepInputs
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.scheduler import Scheduler
from specserve.engine.speculative.drafter import Drafter

COPIES = {"edit": 0.97, "summary": 0.8, "chat": 0.3, "never": 0.0}
MIXED = "mixed"
FORMS = {
    "none": None,
    "ngram": SpeculativeConfig(),
    "ngram, 8 tokens": SpeculativeConfig(num_speculative_tokens=8),
}
ANSWERS = {1: 64, 8: 48, 32: 16}
"""Tokens of a request in a round, on average, by how many run at once."""
FASTEST = 9
"""Times as many tokens may be one request's."""
PROMPT, BLOCK, NUM_BLOCKS = 160, 16, 1200
WIDTHS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32)
ORDINARY = 15_000
"""Prompts and jumps draw from the ids below: nothing repeats by chance."""


class Told(ModelRunner):
    """A model that says what it is told to: `script` has the answer of each request."""

    script: dict[str, list[int]]

    def _logits(self, batch: ScheduledBatch, inputs: StepInputs, rows: Tensor, *, only_highest: bool = False) -> Tensor:
        logits = super()._logits(batch, inputs, rows, only_highest=only_highest)
        wanted = [(row, request, 0) for row, request in enumerate(inputs.sampling)]
        for each in inputs.drafted:
            request = inputs.sampling[each.row]
            wanted += [(each.first + at, request, at + 1) for at in range(len(each.drafts))]
        for row, request, lead in wanted:
            at = request.num_generated_tokens + lead
            script = self.script.get(request.request_id, [])
            if at < len(script):
                logits[row, script[at]] = 1e4
        return logits


def load(model: str) -> Told:
    config = EngineConfig(
        model=ModelConfig(path=model, device="cpu", max_model_len=1024),
        cache=CacheConfig(num_blocks=NUM_BLOCKS, block_size=BLOCK),
    )
    runner = Told.load(config, lambda phase, done: None)
    assert isinstance(runner, Told)
    runner.script = {}
    return runner


def told(copies: float, number: int, length: int) -> tuple[list[int], list[int]]:
    """Prompt and answer."""
    draw = random.Random(f"{copies} {number}")
    prompt = [draw.randrange(100, ORDINARY) for _ in range(PROMPT)]
    answer: list[int] = []
    at = draw.randrange(PROMPT)
    while len(answer) < length:
        if draw.random() < copies:
            answer.append(prompt[at % PROMPT])
            at += 1
        else:
            answer.append(draw.randrange(ORDINARY, 2 * ORDINARY))
            at = draw.randrange(PROMPT)
    return prompt, answer


class Form:
    """One way to serve, with what it has learnt."""

    def __init__(self, runner: Told, cache: KVCacheManager, config: SpeculativeConfig | None) -> None:
        self._runner, self._cache = runner, cache
        self._drafter = None if config is None else Drafter(config, runner.max_draft_rows)
        self.rates: list[float] = []
        """Tokens per second of each round."""
        self.totals = {"tokens": 0, "steps": 0, "drafted": 0, "accepted": 0}

    def begin(self, name: str, kinds: list[str], length: int) -> None:
        """One request of each kind, up to the first tokens of all: prompts are not timed."""
        scheduler = Scheduler(
            self._cache,
            max_num_seqs=len(kinds),
            max_num_batched_tokens=512,
            max_model_len=self._runner.info.max_model_len,
            drafter=self._drafter,
        )
        took = (lambda num_tokens, seconds: None) if self._drafter is None else self._drafter.took
        self._core = EngineCore(scheduler, self._runner, took=took)
        requests = []
        for number, kind in enumerate(kinds):
            prompt, self._runner.script[f"{name} {number}"] = told(COPIES[kind], number, FASTEST * length)
            params = SamplingParams(max_tokens=FASTEST * length, temperature=0.0, ignore_eos=True)
            requests.append(GenerationRequest(request_id=f"{name} {number}", prompt_token_ids=prompt, params=params))
        self._core.add(requests)
        while self._core.stats().num_generated_tokens < len(kinds):
            self._core.step()
        self._names = [request.request_id for request in requests]
        self._before, self._seconds = self._core.stats(), 0.0
        self._wanted = self._before.num_generated_tokens + len(kinds) * length

    def step(self) -> bool:
        """Whether there is another one."""
        began = time.perf_counter()
        self._core.step()
        self._seconds += time.perf_counter() - began
        return self._core.stats().num_generated_tokens < self._wanted

    def end(self) -> None:
        self._core.abort(self._names)
        after, before = self._core.stats(), self._before
        num_tokens = after.num_generated_tokens - before.num_generated_tokens
        self.rates.append(num_tokens / self._seconds)
        self.totals["tokens"] += num_tokens
        self.totals["steps"] += after.num_steps - before.num_steps
        self.totals["drafted"] += after.num_draft_tokens - before.num_draft_tokens
        self.totals["accepted"] += after.num_accepted_tokens - before.num_accepted_tokens


def beside(runner: Told, cache: KVCacheManager, kind: str, concurrency: int, rounds: int) -> dict[str, Any]:
    """`rounds` are timed, behind a first one that fills the prefix cache and shows drafters what times are like."""
    kinds = list(islice(cycle(COPIES if kind == MIXED else [kind]), concurrency))
    forms = {name: Form(runner, cache, config) for name, config in FORMS.items()}
    for one in range(1 + rounds):
        runner.script.clear()
        for name, form in forms.items():
            form.begin(f"{name} {one}", kinds, ANSWERS[concurrency])
        going = list(forms.values())
        while going:
            going = [form for form in going if form.step()]
        for form in forms.values():
            form.end()
    plain = forms["none"].rates[1:]
    return {
        name: {
            "tokens_s": round(statistics.median(form.rates[1:]), 1),
            "ratio": round(statistics.median(map(truediv, form.rates[1:], plain)), 3),
            **form.totals,
        }
        for name, form in forms.items()
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """For the guide: how much faster than without, and how many of the drafted tokens were right."""
    lines = [
        "| Answers | Requests | Tokens/s without | up to 4 tokens | right | up to 8 tokens | right |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, forms in found.items():
        kind, _, concurrency = name.partition(", ")
        cells = [kind, concurrency.removesuffix(" at once"), f"{forms['none']['tokens_s']:.0f}"]
        for form in (forms["ngram"], forms["ngram, 8 tokens"]):
            right = f"{form['accepted']} of {form['drafted']}" if form["drafted"] else "none drafted"
            cells += [f"{form['ratio']:.2f}x", right]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def widths(runner: Told) -> dict[str, float]:
    """Milliseconds of a step over so many tokens of one sequence, all of whose logits are looked at."""
    blocks = list(range(1, 1 - (-(PROMPT + max(WIDTHS)) // BLOCK)))
    told: dict[str, float] = {}
    taken: dict[int, list[float]] = {width: [] for width in WIDTHS}
    for _ in range(7):
        for width in WIDTHS:
            ids = [5] * (PROMPT + 1)
            one = Request("w", SamplingParams(max_tokens=99, temperature=0.0), ids, len(ids), block_table=blocks)
            item = ScheduledRequest(one, PROMPT, width, True, drafts=[5] * (width - 1))
            start = time.perf_counter()
            runner.execute(ScheduledBatch([item], width))
            taken[width].append(time.perf_counter() - start)
    for width in WIDTHS:
        told[str(width)] = round(statistics.median(taken[width]) * 1e3, 1)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, nargs="+", choices=sorted(ANSWERS), default=sorted(ANSWERS))
    parser.add_argument("--out", action="store_true", help="write a result file")
    arguments = parser.parse_args()
    before = limits.measure()
    began = time.perf_counter()
    runner = load(arguments.model)
    cache = KVCacheManager(NUM_BLOCKS, BLOCK)
    found: dict[str, Any] = {"step_ms_by_tokens": widths(runner)}
    print(json.dumps(found), flush=True)
    raced: dict[str, dict[str, Any]] = {}
    for concurrency in arguments.at_once:
        for kind in COPIES if concurrency == 1 else [*COPIES, MIXED]:
            name = f"{kind}, {concurrency} at once"
            raced[name] = beside(runner, cache, kind, concurrency, arguments.rounds)
            print(f"{time.perf_counter() - began:.0f} s: {name}: {json.dumps(raced[name])}", flush=True)
    print(table(raced))
    found |= raced
    if arguments.out:
        print(
            write_result(
                "speculative",
                vars(arguments),
                {
                    "notes": runner.info.notes,
                    "copies": COPIES,
                    "answers": ANSWERS,
                    "limits": before,
                    "results": found,
                },
            )
        )


if __name__ == "__main__":
    main()
