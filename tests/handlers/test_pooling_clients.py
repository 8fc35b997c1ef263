"""Other people's clients for embeddings and reranking, as they are, over real sockets."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cohere
import numpy as np
import openai
import pytest
import requests
import tiktoken
from fake_engine import app_over
from fake_pooling import FakePooling, cross_encoder, embedder
from langchain_community.document_compressors import jina_rerank
from langchain_core.documents import Document
from langchain_openai import OpenAIEmbeddings
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.postprocessor.jinaai_rerank import JinaRerank
from pydantic import SecretStr
from served_app import port_of

KEY = "a-key"
DOCUMENTS = ["the mat", "a cat sat", "hello you", "on the mat"]
QUERY = "a cat"


@dataclass
class Serving:
    engine: FakePooling
    root: str


@pytest.fixture
def embeddings() -> Iterator[Serving]:
    engine = embedder(matryoshka_dimensions=(8,), prompts={"query": "you "})
    with port_of(app_over(engine, api_keys=(KEY,))) as port:  # type: ignore[arg-type]
        yield Serving(engine, f"http://127.0.0.1:{port}")


@pytest.fixture
def ranking() -> Iterator[Serving]:
    engine = cross_encoder(max_model_len=400)
    with port_of(app_over(engine, api_keys=(KEY,))) as port:  # type: ignore[arg-type]
        yield Serving(engine, f"http://127.0.0.1:{port}")


def expected_order(engine: FakePooling, start: int = 0) -> list[int]:
    raw = [float(engine.data(request)[0]) for request in engine.requests[start : start + len(DOCUMENTS)]]
    return np.argsort(-np.array(raw), kind="stable").tolist()


# ---- openai


def test_openai_embeddings_in_every_form(embeddings: Serving) -> None:
    client = openai.OpenAI(base_url=f"{embeddings.root}/v1", api_key=KEY, max_retries=0)
    ids = embeddings.engine.tokenizer.encode("a cat", add_special_tokens=True)
    forms: list[Any] = ["a cat", ["a cat"], ids, [ids]]
    # Without a format the client asks for base64 and reads it itself.
    found = [client.embeddings.create(model="fake", input=form) for form in forms]
    found.append(client.embeddings.create(model="fake", input="a cat", encoding_format="float"))
    vector = embeddings.engine.data(embeddings.engine.requests[0]).tolist()
    for reply in found:
        assert np.array(reply.data[0].embedding, np.float32).tolist() == vector
        assert reply.usage.total_tokens == len(ids)
    raw = client.embeddings.create(model="fake", input="a cat", encoding_format="base64")
    assert base64.b64decode(str(raw.data[0].embedding)) == np.array(vector, "<f4").tobytes()
    assert len(client.embeddings.create(model="fake", input="a cat", dimensions=8).data[0].embedding) == 8


def test_openai_errors(embeddings: Serving) -> None:
    client = openai.OpenAI(base_url=f"{embeddings.root}/v1", api_key=KEY, max_retries=0)
    with pytest.raises(openai.BadRequestError) as size:
        client.embeddings.create(model="fake", input="a", dimensions=5)
    assert (size.value.code, size.value.param) == ("unsupported_value", "dimensions")
    with pytest.raises(openai.BadRequestError) as long:
        client.embeddings.create(model="fake", input=["a", "a " * 50])
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "input.1")
    with pytest.raises(openai.BadRequestError) as task:
        client.chat.completions.create(model="fake", messages=[{"role": "user", "content": "a"}])
    assert task.value.code == "unsupported_task"


# ---- cohere


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CO_API_URL", raising=False)


@pytest.mark.usefixtures("no_environment")
def test_cohere_ranks_in_both_versions(ranking: Serving) -> None:
    first = cohere.Client(KEY, base_url=ranking.root)
    second = cohere.ClientV2(KEY, base_url=ranking.root)
    replies: list[Any] = [
        first.rerank(query=QUERY, documents=DOCUMENTS, model="fake", return_documents=True),
        first.rerank(query=QUERY, documents=[{"text": text} for text in DOCUMENTS], rank_fields=["text"]),
        second.rerank(query=QUERY, documents=DOCUMENTS, model="fake", max_tokens_per_doc=4096),
    ]
    for number, reply in enumerate(replies):
        assert [result.index for result in reply.results] == expected_order(ranking.engine, number * 4)
        scores = [result.relevance_score for result in reply.results]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
        assert reply.meta.billed_units.search_units == 1
    assert [result.document.text for result in replies[0].results] == [
        DOCUMENTS[at] for at in expected_order(ranking.engine)
    ]
    assert [reply.meta.api_version.version for reply in replies] == ["1", "1", "2"]
    best = second.rerank(query=QUERY, documents=DOCUMENTS, model="fake", top_n=1)
    assert [result.index for result in best.results] == expected_order(ranking.engine)[:1]


@pytest.mark.usefixtures("no_environment")
def test_cohere_embeds_in_both_versions(embeddings: Serving) -> None:
    first = cohere.Client(KEY, base_url=embeddings.root)
    second = cohere.ClientV2(KEY, base_url=embeddings.root)
    floats: Any = first.embed(texts=DOCUMENTS, model="fake", input_type="search_document")
    expected = [embeddings.engine.data(request).tolist() for request in embeddings.engine.requests]
    assert floats.response_type == "embeddings_floats"
    assert np.array(floats.embeddings, np.float32).tolist() == expected
    typed: Any = first.embed(texts=DOCUMENTS, model="fake", input_type="search_document", embedding_types=["float"])
    assert np.array(typed.embeddings.float_, np.float32).tolist() == expected
    types: list[Any] = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    every = second.embed(model="fake", input_type="search_document", texts=DOCUMENTS, embedding_types=types)
    assert np.array(every.embeddings.float_, np.float32).tolist() == expected
    assert [len(row) for row in every.embeddings.ubinary or []] == [2] * 4
    assert [len(row) for row in every.embeddings.int8 or []] == [16] * 4
    query = second.embed(model="fake", input_type="search_query", texts=["a cat"], output_dimension=8)
    assert len((query.embeddings.float_ or [])[0]) == 8
    prompted = embeddings.engine.tokenizer.encode("you a cat", add_special_tokens=True)
    assert list(embeddings.engine.requests[-1].prompt_token_ids) == prompted
    # More texts than this client sends at once.
    many: Any = first.embed(texts=["hello"] * 200, model="fake", input_type="search_document")
    assert len(many.embeddings) == 200


@pytest.mark.usefixtures("no_environment")
def test_cohere_errors(ranking: Serving) -> None:
    client = cohere.ClientV2(KEY, base_url=ranking.root)
    with pytest.raises(cohere.BadRequestError) as task:
        client.embed(model="fake", input_type="search_query", texts=["a"])
    assert "offers no embeddings" in task.value.body["message"]
    with pytest.raises(cohere.NotFoundError) as model:
        client.rerank(model="fakee", query="a", documents=["b"])
    assert "did you mean fake" in model.value.body["message"]
    with pytest.raises(cohere.UnauthorizedError):
        cohere.ClientV2("other", base_url=ranking.root).rerank(model="fake", query="a", documents=["b"])


# ---- Jina's clients in frameworks


def test_llama_index_ranks_nodes(ranking: Serving) -> None:
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in DOCUMENTS]
    reranker = JinaRerank(model="fake", base_url=f"{ranking.root}/v1", api_key=KEY, top_n=3)
    found = reranker.postprocess_nodes(nodes, query_bundle=QueryBundle(QUERY))
    assert [one.node.get_content() for one in found] == [DOCUMENTS[at] for at in expected_order(ranking.engine)[:3]]
    unknown = JinaRerank(model="fakee", base_url=f"{ranking.root}/v1", api_key=KEY)
    with pytest.raises(RuntimeError, match="did you mean fake"):
        unknown.postprocess_nodes(nodes, query_bundle=QueryBundle(QUERY))


def test_langchain_compresses_documents(ranking: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jina_rerank, "JINA_API_URL", f"{ranking.root}/v1/rerank")
    compressor = jina_rerank.JinaRerank(jina_api_key=KEY, model="fake", top_n=None)  # type: ignore[call-arg]
    documents = [Document(text) for text in DOCUMENTS]
    found = compressor.compress_documents(documents, QUERY)
    assert [one.page_content for one in found] == [DOCUMENTS[at] for at in expected_order(ranking.engine)]
    assert all(0 <= one.metadata["relevance_score"] <= 1 for one in found)
    assert len(compressor.rerank(documents, QUERY, top_n=9)) == 4
    with pytest.raises(RuntimeError, match="did you mean fake"):
        compressor.rerank(documents, QUERY, model="fakee")


@pytest.mark.parametrize("sends_tokens", [True, False], ids=["token ids", "texts"])
def test_langchain_embeds(embeddings: Serving, sends_tokens: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = embeddings.engine.tokenizer

    class Encoding:
        """What tiktoken would be for this model."""

        def encode(self, text: str, **options: Any) -> list[int]:
            return tokenizer.encode(text, add_special_tokens=True)

        encode_ordinary = encode

    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda name: Encoding())
    client = OpenAIEmbeddings(
        model="fake",
        base_url=f"{embeddings.root}/v1",
        api_key=SecretStr(KEY),
        check_embedding_ctx_length=sends_tokens,
        max_retries=0,
    )
    found = client.embed_documents(DOCUMENTS)
    sent = embeddings.engine.requests
    assert [list(one.prompt_token_ids) for one in sent] == [
        tokenizer.encode(text, add_special_tokens=True) for text in DOCUMENTS
    ]
    expected = [embeddings.engine.data(request) for request in sent]
    assert np.array(found) == pytest.approx(np.array(expected), abs=1e-6)
    assert client.embed_query(DOCUMENTS[0]) == pytest.approx(found[0], abs=1e-6)


# ---- Dify's requests, written down: how it validates credentials, and how it asks


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
def test_dify_ranks_two_documents_and_wants_three(ranking: Serving, path: str) -> None:
    validation = {
        "model": "fake",
        "query": "What is the capital of the United States?",
        "documents": ["a cat sat on the mat", "hello you"],
        "top_n": 3,
        "return_documents": True,
    }
    for top_n in (3, None):
        reply = requests.post(
            f"{ranking.root}{path}",
            json=validation | {"top_n": top_n},
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
            timeout=60,
        )
        reply.raise_for_status()
        results = reply.json()["results"]
        assert sorted(result["index"] for result in results) == [0, 1]
        # It normalizes the scores by their range, and reads the text from the result.
        assert all(isinstance(result["relevance_score"], float) for result in results)
        assert {result["document"]["text"] for result in results} == set(validation["documents"])


def test_dify_checks_an_embedding_model(embeddings: Serving) -> None:
    reply = requests.post(
        f"{embeddings.root}/v1/embeddings",
        json={"model": "fake", "input": ["ping"]},
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=60,
    )
    body = reply.json()
    assert reply.status_code == 200
    assert len(body["data"][0]["embedding"]) == 16
    assert body["usage"]["total_tokens"] > 0
