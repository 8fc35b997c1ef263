"""The shipped embedder and reranker: other libraries compute the same, and what belongs together comes first."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import requests
import torch
from running_server import serving
from sentence_transformers import CrossEncoder, SentenceTransformer

from specserve.engine.api import PoolingRequest
from specserve.engine.client import EngineClient
from specserve.engine.config import EngineConfig, ModelConfig
from specserve.engine.params import PoolingParams, PoolingTask
from specserve.handlers import demo
from specserve.handlers.demo.training.encoders import judge
from specserve.handlers.demo.training.encoders.examples import stream
from specserve.handlers.demo.training.encoders.judged_texts import groups

FLOAT32 = {"model_kwargs": {"dtype": torch.float32}, "device": "cpu"}
TOLERANCE = 1e-5
MARGIN = 0.05
"""What another processor's arithmetic may cost."""
TEXTS = [
    "A dog runs in the garden.",
    "The kitten drinks milk.",
    "Bake the cake in a hot oven.",
    "Cook the soup in a pot.",
    "The computer runs a program.",
    "Zorblat 4711 — ¡olé! 犬 🐶",
    "a long text " * 120,
]
FRANCE = "What is the capital of France?"
PLACES = ["Bananas are yellow.", "Paris is the capital of France.", "The Eiffel tower is made of iron."]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[EngineClient]:
    started = EngineClient(EngineConfig(model=ModelConfig(path=str(demo.embedder_path()), dtype="float32")))
    await started.start()
    yield started
    await started.stop()


@pytest.fixture(scope="module")
def reranker_root() -> Iterator[str]:
    with serving(str(demo.reranker_path()), "--dtype", "float32") as server:
        server.wait_ready()
        yield f"http://127.0.0.1:{server.port}"


async def embed(client: EngineClient, texts: list[str]) -> np.ndarray:
    params = PoolingParams(task=PoolingTask.EMBED)
    encoded = client.tokenizer.encode_batch(texts, add_special_tokens=True)
    wanted = [
        PoolingRequest(request_id=f"{at}-{text[:9]}", prompt_token_ids=ids, params=params)
        for at, (text, ids) in enumerate(zip(texts, encoded, strict=True))
    ]
    return np.stack([output.data for output in await client.pool(wanted)])


def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


@pytest.mark.asyncio(loop_scope="module")
async def test_the_embedder_is_that_of_sentence_transformers(client: EngineClient) -> None:
    oracle = SentenceTransformer(str(demo.embedder_path()), **FLOAT32)
    np.testing.assert_allclose(await embed(client, TEXTS), oracle.encode(TEXTS), atol=TOLERANCE, rtol=0)


@pytest.mark.asyncio(loop_scope="module")
async def test_sentences_about_one_thing_are_nearest(client: EngineClient) -> None:
    found = await embed(client, TEXTS[:4])
    likeness = found @ found.T
    np.fill_diagonal(likeness, -1)
    assert likeness.argmax(axis=1).tolist() == [1, 0, 3, 2]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_question_is_nearest_to_its_answer_at_every_trained_length(client: EngineClient) -> None:
    found = await embed(client, [FRANCE, *PLACES])
    assert client.model.matryoshka_dimensions == (32, 64, 128, 192)
    for size in client.model.matryoshka_dimensions:
        cut = found[:, :size] / np.linalg.norm(found[:, :size], axis=1, keepdims=True)
        assert (cut[1:] @ cut[0]).argmax() == 1, size
    assert (found[1:] @ found[0]).argsort()[::-1].tolist() == [1, 2, 0]


def test_shortened_vectors_are_those_of_sentence_transformers() -> None:
    oracle = SentenceTransformer(str(demo.embedder_path()), truncate_dim=64, **FLOAT32)
    with serving(str(demo.embedder_path()), "--dtype", "float32") as server:
        server.wait_ready()
        body = {"input": TEXTS[:4], "dimensions": 64}
        answer = requests.post(f"http://127.0.0.1:{server.port}/v1/embeddings", json=body, timeout=60).json()
    wanted = oracle.encode(TEXTS[:4], normalize_embeddings=True)
    np.testing.assert_allclose([one["embedding"] for one in answer["data"]], wanted, atol=TOLERANCE, rtol=0)


def test_the_reranker_is_that_of_sentence_transformers(reranker_root: str) -> None:
    body = {"text_1": FRANCE, "text_2": [*PLACES, TEXTS[5]]}
    answer = requests.post(f"{reranker_root}/score", json=body, timeout=60).json()
    oracle = CrossEncoder(str(demo.reranker_path()), **FLOAT32)
    wanted = oracle.predict([(FRANCE, text) for text in body["text_2"]])
    np.testing.assert_allclose([one["score"] for one in answer["data"]], wanted, atol=TOLERANCE, rtol=0)


def test_the_answer_is_ranked_first_and_only_it_is_called_relevant(reranker_root: str) -> None:
    body = {"query": FRANCE, "documents": PLACES}
    results = requests.post(f"{reranker_root}/rerank", json=body, timeout=60).json()["results"]
    scores = [one["relevance_score"] for one in results]
    assert results[0]["index"] == 1
    assert scores[0] > 0.5 > scores[1]


def test_a_pair_in_one_text_can_be_classified(reranker_root: str) -> None:
    body = {"input": [f"{FRANCE} [SEP] {text}" for text in PLACES]}
    found = requests.post(f"{reranker_root}/classify", json=body, timeout=60).json()["data"]
    assert {one["label"] for one in found} == {"relevant"}
    assert [one["num_classes"] for one in found] == [1, 1, 1]
    assert np.argmax([one["probs"][0] for one in found]) == 1


def test_the_judged_sentences_are_in_no_training_text() -> None:
    trained = {text.strip(" .?").lower() for one in islice(stream(11), 60_000) for text in (one.query, one.right.text)}
    judged = [text for query, right, wrong in groups() for text in (query, right, *wrong)]
    assert len(set(judged)) == len(judged) == 160
    assert [text for text in judged if text.strip(" .?").lower() in trained] == []


def test_the_embedder_finds_as_much_as_its_card_says() -> None:
    folder = demo.embedder_path()
    said, found = report(folder), judge.judge_embedder(judge.Embedder(folder))
    for topic, numbers in said["held_out"].items():
        assert found["held_out"][topic]["first"] >= numbers["first"] - MARGIN, topic
    for size, numbers in said["by_hand"].items():
        assert found["by_hand"][size]["first"] >= numbers["first"] - MARGIN, size


def test_the_reranker_finds_as_much_as_its_card_says() -> None:
    folder = demo.reranker_path()
    said, found = report(folder), judge.judge_reranker(judge.Reranker(folder))
    for topic, numbers in said["held_out"].items():
        assert found["held_out"][topic]["first"] >= numbers["first"] - MARGIN, topic
    assert found["by_hand"]["first"] >= said["by_hand"]["first"] - MARGIN
    assert found["by_hand_of_three"]["first"] >= said["by_hand_of_three"]["first"] - MARGIN
