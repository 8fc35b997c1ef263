"""sentence-transformers without any server, as a peer of the embedding and reranking endpoints.

Started with a row's name and a model folder; a line `COUNT SEED` on the standard input runs that many calls of the
row's batch one after the other, in bfloat16, and answers one JSON line with the texts per second.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

from benchmarks.load import words
from benchmarks.peers.pooling_load import QUERY_WORDS
from benchmarks.peers.rows import BATCH, POOLING


def calls(row: str, folder: str) -> tuple[Callable[[random.Random], list[Any]], Callable[[list[Any]], object]]:
    """What makes one call's texts, and what computes them."""
    length, batch, options = POOLING[row].prompt_tokens, BATCH[row], {"dtype": torch.bfloat16}
    if row == "embed c4":
        encoder = SentenceTransformer(folder, device="cpu", model_kwargs=options)
        return (
            lambda rng: [words(rng, length) for _ in range(batch)],
            lambda texts: encoder.encode(texts, batch_size=batch),
        )
    scorer = CrossEncoder(folder, device="cpu", model_kwargs=options)
    return (
        lambda rng: [(words(rng, QUERY_WORDS), words(rng, length)) for _ in range(batch)],
        lambda pairs: scorer.predict(pairs, batch_size=batch),
    )


def main() -> None:
    row, folder = sys.argv[1:]
    texts, compute = calls(row, folder)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        count, seed = map(int, line.split())
        rng = random.Random(seed)
        inputs = [texts(rng) for _ in range(count)]
        began = time.perf_counter()
        for each in inputs:
            compute(each)
        wall = time.perf_counter() - began
        rate = round(count * BATCH[row] / wall, 2)
        answer = {"requests": count, "wall_s": round(wall, 3), "texts_s": rate, "errors": 0}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
