"""Closed-loop clients of embedding and reranking endpoints; every text is new."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import aiohttp

from benchmarks.load import percentiles, words
from benchmarks.peers.rows import BATCH, Row

QUERY_WORDS = 16


def body(row: Row, model: str, rng: random.Random) -> dict[str, Any]:
    texts = [words(rng, row.scenario.prompt_tokens) for _ in range(BATCH[row.name])]
    if row.name == "embed c4":
        return {"model": model, "input": texts}
    return {"model": model, "query": words(rng, QUERY_WORDS), "documents": texts}


def items(row: Row, answer: dict[str, Any]) -> int:
    """How many texts the answer holds something about."""
    return len(answer["data"] if row.name == "embed c4" else answer["results"])


async def run(url: str, model: str, row: Row, count: int, seed: int) -> dict[str, Any]:
    """`url` is the server's with the root of its API; a failed request is counted in the result, never dropped."""
    rng = random.Random(f"{seed} {row.name}")
    queue = [body(row, model, rng) for _ in range(count)]
    path = "embeddings" if row.name == "embed c4" else "rerank"
    taken: list[float] = []
    errors: list[str] = []
    done = 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as session:

        async def client() -> None:
            nonlocal done
            while queue:
                began = time.perf_counter()
                try:
                    async with session.post(f"{url}/{path}", json=queue.pop()) as response:
                        if response.status != 200:
                            raise RuntimeError(f"HTTP {response.status}: {(await response.text())[:300]}")
                        done += items(row, await response.json())
                    taken.append(time.perf_counter() - began)
                except (aiohttp.ClientError, RuntimeError, TimeoutError, KeyError, ValueError) as error:
                    errors.append(f"{type(error).__name__}: {error}")

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(row.scenario.concurrency)))
        wall = time.perf_counter() - began
    return {
        "requests": len(taken),
        "wall_s": round(wall, 3),
        "texts_s": round(done / wall, 2),
        "e2e_ms": percentiles(taken),
        "errors": len(errors),
        "first_error": errors[0] if errors else None,
    }
