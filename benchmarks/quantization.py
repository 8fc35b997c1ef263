"""`--quantization` beside bfloat16: speed of a model's steps, and accuracy of the demo model on a fixed text.

    taskset -c 0,1 env OMP_NUM_THREADS=2 python -m benchmarks.quantization MODEL [--rounds 9] [--loads 4] [--out]

Steps run in this process, without server and scheduler; the forms take turns, so that all see the same minutes.
The text is what the demo model was trained to answer to, in wordings kept out of the training: 12 questions of each
topic, drawn with a fixed seed. Perplexity is over the answers' tokens; `same_choice` is the share of them where the
likeliest token is the one in bfloat16. `--out` writes benchmarks/results/quantization-<date>-<commit>.json.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer

from benchmarks import limits
from benchmarks.result_file import write_result
from specserve.engine.batch import ScheduledBatch, ScheduledRequest
from specserve.engine.config import CacheConfig, EngineConfig, ModelConfig
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.runner.model_runner import ModelRunner
from specserve.handlers.demo import checkpoint_path
from specserve.handlers.demo.training.check import questions
from specserve.handlers.demo.training.dialogues import TOPICS
from specserve.handlers.demo.training.tokens import Sample, encode

CONTEXT, BLOCK, NUM_BLOCKS = 200, 16, 512
FORMS = ("none", "int8", "int4")
DECODES = (1, 8, 32)
PREFILL = 512
QUESTIONS_PER_TOPIC, SEED = 12, 5


def load(path: str, quantization: str) -> tuple[ModelRunner, float]:
    """The model and the seconds that loading took."""
    config = EngineConfig(
        model=ModelConfig(path=path, device="cpu", max_model_len=2048, quantization=quantization),
        cache=CacheConfig(num_blocks=NUM_BLOCKS, block_size=BLOCK),
    )
    start = time.perf_counter()
    runner = ModelRunner.load(config, lambda phase, done: None)
    return runner, time.perf_counter() - start


def request(name: str, num_computed: int, num_new: int, first_block: int) -> ScheduledRequest:
    length = num_computed + num_new
    blocks = list(range(first_block, first_block - (-length // BLOCK)))
    one = Request(name, SamplingParams(max_tokens=8, temperature=0.0), [5] * length, length, block_table=blocks)
    return ScheduledRequest(one, num_computed, num_new, True)


def decode(rows: int) -> ScheduledBatch:
    width = CONTEXT // BLOCK + 1
    return ScheduledBatch([request(f"r{at}", CONTEXT, 1, 1 + at * width) for at in range(rows)], rows)


def seconds_of(runner: ModelRunner, batch: ScheduledBatch, steps: int) -> float:
    taken = []
    for _ in range(steps):
        start = time.perf_counter()
        runner.execute(batch)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def speed(model: str, rounds: int, loads: int) -> dict[str, Any]:
    """Medians over all rounds of all loads: where in memory the weights lie decides how fast they are read."""
    cases = {f"decode {rows}": (decode(rows), rows, 5) for rows in DECODES}
    cases[f"prefill {PREFILL}"] = (ScheduledBatch([request("p", 0, PREFILL, 1)], PREFILL), PREFILL, 1)
    times: dict[str, dict[str, list[float]]] = {form: {case: [] for case in cases} for form in FORMS}
    for _ in range(loads):
        loaded = {form: load(model, form) for form in FORMS}
        for _ in range(rounds):
            for case, (batch, _, steps) in cases.items():
                for form, (runner, _) in loaded.items():
                    times[form][case].append(seconds_of(runner, batch, steps))
    found: dict[str, Any] = {}
    for form, (runner, load_s) in loaded.items():
        found[form] = {"load_s": round(load_s, 2), "notes": runner.info.notes}
        for case, (_, tokens, _) in cases.items():
            middle, bfloat16 = statistics.median(times[form][case]), statistics.median(times[FORMS[0]][case])
            found[form][case] = {
                "ms": round(middle * 1e3, 2),
                "ms_least": round(min(times[form][case]) * 1e3, 2),
                "ms_by_load": [
                    round(statistics.median(times[form][case][at : at + rounds]) * 1e3, 2)
                    for at in range(0, loads * rounds, rounds)
                ],
                "tokens_s": round(tokens / middle, 1),
                "times_bfloat16": round(bfloat16 / middle, 2),
            }
        print(json.dumps({form: found[form]}), flush=True)
    return found


def logits_of(runner: ModelRunner, samples: list[Sample]) -> list[Tensor]:
    """Those that chose each learnt token, for each sample."""
    found = []
    for ids, learnt in samples:
        blocks = list(range(1, 1 - (-len(ids) // BLOCK)))
        one = Request("s", SamplingParams(max_tokens=1), ids, len(ids), block_table=blocks)
        logits = runner.logits(ScheduledBatch([ScheduledRequest(one, 0, len(ids), True)], len(ids)))
        found.append(logits[:-1][torch.tensor(learnt[1:])].float())
    return found


def accuracy() -> dict[str, Any]:
    folder = str(checkpoint_path())
    items = [item for topic in TOPICS for item in questions(topic, True, QUESTIONS_PER_TOPIC, SEED)]
    samples = encode(items, AutoTokenizer.from_pretrained(folder))
    wanted = torch.cat([torch.tensor(ids[1:])[torch.tensor(learnt[1:])] for ids, learnt in samples])
    found: dict[str, Any] = {"tokens": len(wanted)}
    plain: Tensor | None = None
    for form in FORMS:
        logits = torch.cat(logits_of(load(folder, form)[0], samples))
        plain = logits if plain is None else plain
        lost = F.kl_div(logits.log_softmax(-1), plain.log_softmax(-1), reduction="batchmean", log_target=True)
        found[form] = {
            "perplexity": round(math.exp(float(F.cross_entropy(logits, wanted))), 5),
            "same_choice": round(float((logits.argmax(-1) == plain.argmax(-1)).float().mean()), 5),
            "divergence": round(float(lost), 6),
        }
        print(json.dumps({form: found[form]}), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder; its steps are timed")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--loads", type=int, default=4, help="how often the weights are loaded anew")
    parser.add_argument("--out", action="store_true", help="write a result file")
    arguments = parser.parse_args()
    with torch.inference_mode():
        before = limits.measure()
        found = {
            "limits": before,
            "speed": speed(arguments.model, arguments.rounds, arguments.loads),
            "accuracy": accuracy(),
        }
    if arguments.out:
        print(write_result("quantization", vars(arguments), found))


if __name__ == "__main__":
    main()
