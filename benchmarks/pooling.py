"""Embedding and reranking by the engine alone: no server, no text; beside transformers and the bound of the products.

    taskset -c 0,1 env OMP_NUM_THREADS=2 THP_MEM_ALLOC_ENABLE=1 python -m benchmarks.pooling [--rounds 20] [--out]

A random encoder of the size of MiniLM (6 layers of 384, 22.7 M parameters) in bfloat16, texts of 128 tokens, huge pages
as in the engine process. What is compared takes turns within one run, because shared machines change from one second to
the next. The bound is what oneDNN's products of the encoder's shapes alone would allow; `--out` appends to
benchmarks/results.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, BertConfig, BertForSequenceClassification, BertModel

from benchmarks.run import commit, cpu_name
from specserve.engine.api import PoolingRequest
from specserve.engine.config import EngineConfig, ModelConfig
from specserve.engine.core import EngineCore
from specserve.engine.models.onednn_linear import pack, packed_linear
from specserve.engine.params import PoolingParams, PoolingTask
from specserve.engine.runner.pooling_runner import PoolingRunner
from specserve.engine.scheduler import Scheduler

RESULTS = Path(__file__).parent / "results"
LENGTH, TEXTS, PAIRS = 128, 32, 50
IN_FLIGHT = 4
"""Calls of TEXTS texts that are open at once."""
CONFIG = {
    "vocab_size": 30522,
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
}
SHAPES = ((1152, 384), (384, 384), (1536, 384), (384, 1536))
"""Products of a layer: features out and in."""


def engine_of(folder: Path) -> tuple[EngineCore, str, float]:
    """A core over the folder's model, its task, and the seconds that loading took."""
    began = time.perf_counter()
    runner = PoolingRunner.load(
        EngineConfig(model=ModelConfig(path=str(folder), dtype="bfloat16", device="cpu")), lambda phase, done: None
    )
    runner.warm_up()
    scheduler = Scheduler(
        runner.make_cache(enable_prefix_caching=True),
        max_num_seqs=64,
        max_num_batched_tokens=runner.max_num_batched_tokens,
        max_model_len=runner.info.max_model_len,
        computes_whole_prompts=runner.computes_whole_prompts,
    )
    core = EngineCore(scheduler, runner, reads_all_hidden=runner.reads_all_hidden)
    return core, runner.info.tasks[0], time.perf_counter() - began


def pool_all(core: EngineCore, task: str, texts: list[list[int]]) -> None:
    params = PoolingParams(task=PoolingTask(task))
    refused = core.pool(
        [PoolingRequest(request_id=str(at), prompt_token_ids=ids, params=params) for at, ids in enumerate(texts)]
    )
    if refused:
        raise RuntimeError(refused[0].error)
    while core.has_requests:
        for progress in core.step():
            if progress.error is not None:
                raise RuntimeError(progress.error)


@torch.inference_mode()
def products_alone(num_tokens: int) -> Callable[[], object]:
    """The products of one step of `num_tokens` tokens, with weights of their own in every layer."""
    layers = [
        [(pack(torch.randn(n, k).bfloat16()), torch.randn(n).bfloat16()) for n, k in SHAPES]
        for _ in range(CONFIG["num_hidden_layers"])
    ]
    inputs = [torch.randn(num_tokens, k).bfloat16() for _, k in SHAPES]

    @torch.inference_mode()
    def run() -> None:
        for layer in layers:
            for (packed, bias), x in zip(layer, inputs, strict=True):
                packed_linear(x, packed, bias)

    return run


def padded(folder: Path) -> Callable[[], object]:
    """transformers' own forward of one batch, as libraries around it compute it."""
    model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
    ids, mask = torch.randint(5, 30000, (TEXTS, LENGTH)), torch.ones(TEXTS, LENGTH, dtype=torch.long)

    @torch.inference_mode()
    def run() -> object:
        hidden = model(ids, attention_mask=mask).last_hidden_state
        return torch.nn.functional.normalize(hidden.mean(1), dim=-1)

    return run


def in_turns(works: dict[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, dict[str, float]]:
    """Texts per second of each work, which treats so many texts; all of them once a round."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, (work, _) in works.items():
            began = time.perf_counter()
            work()
            if turn:  # the first one warms up
                taken[name].append(time.perf_counter() - began)
    return {
        name: {
            "median": round(count / statistics.median(taken[name]), 1),
            "p90": round(count / sorted(taken[name])[len(taken[name]) // 10], 1),
            "best": round(count / min(taken[name]), 1),
        }
        for name, (_, count) in works.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", action="store_true", help="append to benchmarks/results")
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    texts = torch.randint(5, 30000, (max(TEXTS * IN_FLIGHT, PAIRS), LENGTH), generator=generator).tolist()
    with tempfile.TemporaryDirectory() as name:
        embedder, reranker = Path(name) / "embed", Path(name) / "rerank"
        torch.manual_seed(0)
        BertModel(BertConfig(**CONFIG)).save_pretrained(embedder)
        BertForSequenceClassification(BertConfig(**CONFIG, num_labels=1)).save_pretrained(reranker)
        embedding, embed_task, load_s = engine_of(embedder)
        reranking, rerank_task, _ = engine_of(reranker)
        peer = padded(embedder)
    step = 8 * LENGTH
    rates = in_turns(
        {
            "bound of the products": (products_alone(step), step // LENGTH),
            f"embed {TEXTS} x {LENGTH}, {IN_FLIGHT} calls": (
                lambda: pool_all(embedding, embed_task, texts[: TEXTS * IN_FLIGHT]),
                TEXTS * IN_FLIGHT,
            ),
            f"rerank {PAIRS} x {LENGTH}": (lambda: pool_all(reranking, rerank_task, texts[:PAIRS]), PAIRS),
            f"transformers, batch of {TEXTS}": (peer, TEXTS),
        },
        options.rounds,
    )
    bound = rates["bound of the products"]
    for what, rate in rates.items():
        shares = ", ".join(f"{key} {rate[key] / bound[key]:.0%}" for key in rate)
        print(f"{what:<28} {rate['median']:>6} median, {rate['p90']:>6} p90, {rate['best']:>6} best; share {shares}")
    print(f"loaded in {load_s:.2f} s, imports not counted; {torch.get_num_threads()} threads")
    if options.out:
        write_result(rates, load_s)


def write_result(rates: dict[str, dict[str, float]], load_s: float) -> None:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    found: dict[str, Any] = {
        "benchmark": "pooling",
        "date": today,
        "commit": commit(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "texts_per_s": rates,
        "load_s": round(load_s, 2),
    }
    path = RESULTS / f"pooling-{today}-{commit()}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
