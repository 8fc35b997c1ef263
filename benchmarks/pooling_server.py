"""Embedding and reranking through HTTP: the server on its cores, the client on another one.

    taskset -c 2 env OMP_NUM_THREADS=2 python -m benchmarks.pooling_server --cores 0,1 [--runs 2] [--out]

A random encoder of the size of MiniLM in bfloat16 with a trained tokenizer, kept in .models. `embed`: 4 requests in
flight of 32 texts of 128 tokens; `rerank`: one after the other of 50 pairs of some 129 tokens. A first request of each
warms up. The engine alone is what benchmarks/pooling.py measures; `--out` writes a file into benchmarks/results.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from benchmarks.models import standard_library
from benchmarks.pooling import CONFIG, RESULTS
from benchmarks.run import ROOT, commit, cpu_name
from benchmarks.server import serving

WORDS = (
    "self return import def class from not for with the and is in if name value type file none true path data list key "
    "text code object line string set get call other raise error test result size time args to of that as"
).split()
"""A token each, with the tokenizer below."""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS, TEXT_WORDS = 32, 126
PAIRS, QUERY_WORDS, DOCUMENT_WORDS = 50, 16, 110
EMBED_REQUESTS, EMBED_IN_FLIGHT, RERANK_REQUESTS = 24, 4, 12


def write_models(folder: Path) -> tuple[Path, Path]:
    """An embedder and a reranker, unless they are there."""
    found = folder / "embedder", folder / "reranker"
    if not (found[1] / "tokenizer.json").is_file():
        torch.manual_seed(0)
        BertModel(BertConfig(**CONFIG)).save_pretrained(found[0])
        BertForSequenceClassification(BertConfig(**CONFIG, num_labels=1)).save_pretrained(found[1])
        tokenizer = train_tokenizer()
        for one in found:
            tokenizer.save_pretrained(one)
    return found


def train_tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    size = int(CONFIG["vocab_size"])
    core.train_from_iterator(
        standard_library(), trainers.WordPieceTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False)
    )
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {f"{token[1:-1].lower()}_token": token for token in SPECIAL}
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


def words(generator: random.Random, count: int) -> str:
    return " ".join(generator.choices(WORDS, k=count))


def embed_body(generator: random.Random) -> dict[str, Any]:
    return {"model": "m", "input": [words(generator, TEXT_WORDS) for _ in range(TEXTS)]}


def rerank_body(generator: random.Random) -> dict[str, Any]:
    documents = [words(generator, DOCUMENT_WORDS) for _ in range(PAIRS)]
    return {"model": "m", "query": words(generator, QUERY_WORDS), "documents": documents}


async def send(url: str, bodies: list[dict[str, Any]], in_flight: int) -> dict[str, float]:
    """Texts per second over all of them, and the tokens that the server counted."""
    left, num_tokens = bodies[::-1], 0

    async with aiohttp.ClientSession(raise_for_status=True) as session:

        async def worker() -> None:
            nonlocal num_tokens
            while left:
                async with session.post(url, json=left.pop()) as reply:
                    num_tokens += (await reply.json())["usage"]["total_tokens"]

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(in_flight)))
        taken = time.perf_counter() - began
    texts = sum(len(body.get("input") or body["documents"]) for body in bodies)
    return {"texts_per_s": round(texts / taken, 1), "tokens_per_text": round(num_tokens / texts, 1)}


def measure(
    folder: Path, path: str, make: Any, requests: int, in_flight: int, arguments: Any
) -> list[dict[str, float]]:
    flags = ["--dtype", "bfloat16"]
    with tempfile.TemporaryFile() as log, serving(folder, "m", flags, arguments.cores, log) as server:
        asyncio.run(send(server.url + path, [make(random.Random(-1))], 1))
        found = []
        for run in range(arguments.runs):
            generator = random.Random(run)
            bodies = [make(generator) for _ in range(requests)]
            found.append(asyncio.run(send(server.url + path, bodies, in_flight)))
            print(path, found[-1], flush=True)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", default="0,1", help="of the server; the client runs where it was started")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--out", action="store_true", help="write into benchmarks/results")
    parser.add_argument("--prepare", action="store_true", help="write the models only")
    arguments = parser.parse_args()
    embedder, reranker = write_models(ROOT / ".models" / "pooling")
    if arguments.prepare:
        return
    scenarios = {
        f"embed {TEXTS} x 128, {EMBED_IN_FLIGHT} in flight": measure(
            embedder, "/v1/embeddings", embed_body, EMBED_REQUESTS, EMBED_IN_FLIGHT, arguments
        ),
        f"rerank {PAIRS} x 129, one after the other": measure(
            reranker, "/v1/rerank", rerank_body, RERANK_REQUESTS, 1, arguments
        ),
    }
    if arguments.out:
        write_result(scenarios, arguments.cores)


def write_result(scenarios: dict[str, list[dict[str, float]]], cores: str) -> None:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    found = {
        "benchmark": "pooling through HTTP",
        "date": today,
        "commit": commit(),
        "cpu": cpu_name(),
        "python": sys.version.split()[0],
        "server_cores": cores,
        "load_average": os.getloadavg()[0],
        "runs": scenarios,
    }
    path = RESULTS / f"pooling-server-{today}-{commit()}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
