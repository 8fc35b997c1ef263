"""`--speculative-config` beside none: tokens per second by how much an answer repeats its prompt, and by load.

    OMP_NUM_THREADS=2 python -m benchmarks.speculative MODEL [--out]

The model's weights may be random: what it computes is timed, and what it says is given. Each answer copies its prompt
from some place on; every token goes on with probability p (`copies`), else comes one that the prompt does not have,
and a jump elsewhere. The logit of the given token is raised before it is sampled. Drafts, their verification,
scheduler and cache are the real ones, so acceptance is what the n-gram index finds. Steps run in this process,
without server; prompts are in the prefix cache, and both forms take turns. `--out` writes
benchmarks/results/speculative-<date>-<commit>.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
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
ANSWERS = {1: 48, 8: 32, 32: 16}
"""Tokens of an answer, by how many run at once."""
PROMPT, BLOCK, NUM_BLOCKS = 160, 16, 1200
WIDTHS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32)
ORDINARY = 15_000
"""Prompts and jumps draw from the ids below: nothing repeats by chance."""


class Told(ModelRunner):
    """A model that says what it is told to: `script` has the answer of each request."""

    script: dict[str, list[int]]

    def _logits(self, batch: ScheduledBatch, inputs: StepInputs, rows: Tensor) -> Tensor:
        logits = super()._logits(batch, inputs, rows)
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


def run(
    runner: Told, cache: KVCacheManager, copies: float, concurrency: int, speculative: SpeculativeConfig | None
) -> dict[str, float]:
    """Seconds of the steps behind the first, in which prompts are looked up; and what came of drafts."""
    length = ANSWERS[concurrency]
    drafter = None if speculative is None else Drafter(speculative, runner.max_draft_rows)
    scheduler = Scheduler(
        cache,
        max_num_seqs=concurrency,
        max_num_batched_tokens=512,
        max_model_len=runner.info.max_model_len,
        drafter=drafter,
    )
    core = EngineCore(scheduler, runner)
    requests = []
    for number in range(concurrency):
        prompt, answer = told(copies, number, length)
        name = f"r{number}"
        runner.script[name] = answer
        params = SamplingParams(max_tokens=length, temperature=0.0, ignore_eos=True)
        requests.append(GenerationRequest(request_id=name, prompt_token_ids=prompt, params=params))
    core.add(requests)
    while core.stats().num_generated_tokens < concurrency:
        core.step()
    before = core.stats()
    start = time.perf_counter()
    while core.has_requests:
        core.step()
    seconds = time.perf_counter() - start
    stats = core.stats()
    tokens = stats.num_generated_tokens - before.num_generated_tokens
    return {
        "tokens_s": tokens / seconds,
        "steps": stats.num_steps - before.num_steps,
        "drafted": stats.num_draft_tokens,
        "accepted": stats.num_accepted_tokens,
    }


def beside(runner: Told, cache: KVCacheManager, copies: float, concurrency: int, rounds: int) -> dict[str, Any]:
    forms: dict[str, SpeculativeConfig | None] = {"none": None, "ngram": SpeculativeConfig()}
    if concurrency == 1:
        forms["ngram, 8 tokens"] = SpeculativeConfig(num_speculative_tokens=8)
    run(runner, cache, copies, concurrency, None)  # the prompts, once
    found: dict[str, list[dict[str, float]]] = {form: [] for form in forms}
    for _ in range(rounds):
        for form, config in forms.items():
            found[form].append(run(runner, cache, copies, concurrency, config))
    plain = statistics.median(one["tokens_s"] for one in found["none"])
    told: dict[str, Any] = {}
    for form, runs in found.items():
        speed = statistics.median(one["tokens_s"] for one in runs)
        told[form] = {
            "tokens_s": round(speed, 1),
            "ratio": round(speed / plain, 2),
            "steps": runs[0]["steps"],
            "drafted": runs[0]["drafted"],
            "accepted": runs[0]["accepted"],
        }
    return told


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
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--at-once", type=int, nargs="+", choices=sorted(ANSWERS), default=sorted(ANSWERS))
    parser.add_argument("--out", action="store_true", help="write a result file")
    arguments = parser.parse_args()
    before = limits.measure()
    began = time.perf_counter()
    runner = load(arguments.model)
    cache = KVCacheManager(NUM_BLOCKS, BLOCK)
    found: dict[str, Any] = {"step_ms_by_tokens": widths(runner)}
    print(json.dumps(found), flush=True)
    for concurrency in arguments.at_once:
        for name, copies in COPIES.items() if concurrency < runner.max_draft_rows else [("edit", COPIES["edit"])]:
            found[f"{name}, {concurrency} at once"] = beside(runner, cache, copies, concurrency, arguments.rounds)
            figures = json.dumps(found[f"{name}, {concurrency} at once"])
            print(f"{time.perf_counter() - began:.0f} s: {name}, {concurrency} at once: {figures}", flush=True)
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
