"""Reranking on its three paths, over an engine whose scores can be recomputed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from asking_pooling import answer, ask, refusal
from fake_engine import FakeEngine, app_over, client_of
from fake_pooling import FakePooling, classifier, cross_encoder, embedder
from hypothesis import given, settings
from hypothesis import strategies as st

PATHS = ["/rerank", "/v1/rerank", "/v2/rerank"]
DOCUMENTS = ["the mat", "a cat sat", "hello you", "on the mat"]
BODY = {"query": "a cat", "documents": DOCUMENTS}


def order(reply: dict[str, Any]) -> list[int]:
    return [result["index"] for result in reply["results"]]


@pytest.mark.parametrize("path", PATHS)
async def test_documents_come_by_their_scores_between_0_and_1(path: str) -> None:
    engine = cross_encoder()
    reply = await answer(engine, path, BODY)
    raw = np.array([engine.data(request)[0] for request in engine.requests])
    assert order(reply) == np.argsort(-raw, kind="stable").tolist()
    for result in reply["results"]:
        assert result["relevance_score"] == pytest.approx(1 / (1 + np.exp(-raw[result["index"]])), abs=1e-6)
        assert result["document"] == {"text": DOCUMENTS[result["index"]]}
    assert reply["meta"]["api_version"]["version"] == ("2" if path == "/v2/rerank" else "1")
    assert reply["meta"]["billed_units"]["search_units"] == 1
    tokens = sum(len(request.prompt_token_ids) for request in engine.requests)
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] == tokens


@settings(max_examples=30)
@given(top_n=st.none() | st.integers(0, 12), documents=st.lists(st.sampled_from(DOCUMENTS), min_size=1, max_size=8))
async def test_the_best_are_the_beginning_of_all(top_n: int | None, documents: list[str]) -> None:
    whole = order(await answer(cross_encoder(), "/rerank", {"query": "a", "documents": documents}))
    some = order(await answer(cross_encoder(), "/rerank", {"query": "a", "documents": documents, "top_n": top_n}))
    assert sorted(whole) == list(range(len(documents)))
    assert some == whole[: top_n or len(documents)]


async def test_equal_documents_keep_their_order() -> None:
    reply = await answer(cross_encoder(), "/rerank", {"query": "a", "documents": ["you"] * 5})
    assert order(reply) == [0, 1, 2, 3, 4]


async def test_documents_are_left_out_when_they_are_not_wanted() -> None:
    reply = await answer(cross_encoder(), "/rerank", BODY | {"return_documents": False})
    assert all("document" not in result for result in reply["results"])


async def test_the_models_own_numbers_come_when_asked_for() -> None:
    engine = cross_encoder()
    reply = await answer(engine, "/rerank", BODY | {"use_activation": False})
    for result in reply["results"]:
        assert result["relevance_score"] == float(engine.data(engine.requests[result["index"]])[0])


@pytest.mark.parametrize(
    ("documents", "fields", "texts"),
    [
        ([{"text": "the mat"}, "you"], None, ["the mat", "you"]),
        ([{"title": "a cat", "text": "sat"}], ["title", "text"], ["a cat\nsat"]),
        ([{"title": "a cat", "text": "sat", "page": 7}], ["page", "text", "author"], ["7\nsat"]),
        ([{"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "cat"}]}], None, ["a\ncat"]),
        ([{"content": "a cat"}], [], ["a cat"]),
    ],
)
async def test_documents_may_be_objects(documents: list[Any], fields: list[str] | None, texts: list[str]) -> None:
    engine = cross_encoder()
    reply = await ask(engine, "/v1/rerank", {"query": "you", "documents": documents, "rank_fields": fields})
    found = {result["index"]: result["document"]["text"] for result in reply.json()["results"]}
    assert [found[at] for at in range(len(texts))] == texts
    assert [list(request.prompt_token_ids) for request in engine.requests] == [
        engine.tokenizer.encode_pair("you", text)[0] for text in texts
    ]
    assert "x-ignored-params" not in reply.headers


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"documents": ["a"]}, "missing_required_parameter", "query"),
        ({"query": "a"}, "missing_required_parameter", "documents"),
        ({"query": "a", "documents": []}, "empty_array", "documents"),
        ({"query": "", "documents": ["a"]}, "invalid_prompt", "query"),
        ({"query": "a", "documents": ["b", ""]}, "invalid_prompt", "documents.1"),
        ({"query": "a", "documents": [{"title": "b"}]}, "invalid_prompt", "documents.0"),
        ({"query": "a", "documents": [{"b": "c"}], "rank_fields": ["d"]}, "invalid_prompt", "documents.0"),
        ({"query": "a", "documents": [{"b": ["c"]}], "rank_fields": ["b"]}, "invalid_prompt", "documents.0.b"),
        ({"query": "a", "documents": ["b"], "top_n": -1}, "integer_below_min_value", "top_n"),
        ({"query": "a", "documents": ["b", "c " * 60]}, "context_length_exceeded", "documents.1"),
        ({"query": "a", "documents": ["b"], "relevant_spans": {"mode": "enabled"}}, "unsupported_value",
         "relevant_spans.mode"),
        ({"query": "a", "documents": ["b"] * 10_001}, "array_above_max_length", "documents"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", PATHS)
async def test_what_cannot_be_is_refused_where_clients_look(
    path: str, body: dict[str, Any], code: str, param: str
) -> None:
    assert (await refusal(cross_encoder(), path, body))[:2] == (code, param)
    reply = (await ask(cross_encoder(), path, body)).json()
    assert reply["message"] == reply["detail"] == reply["error"]["message"]


async def test_long_documents_are_cut_only_when_asked() -> None:
    engine = cross_encoder()
    body = {"query": "a", "documents": ["you " * 60, "hello"]}
    for cut in ({"max_tokens_per_doc": 10}, {"truncate_prompt_tokens": -1}):
        assert len((await answer(engine, "/v2/rerank", body | cut))["results"]) == 2
    lengths = [len(request.prompt_token_ids) for request in engine.requests]
    assert lengths[0] == 14
    assert lengths[2] == 40


@pytest.mark.parametrize("about", [{}, {"similarity": "dot"}, {"similarity": "euclidean"}])
async def test_vectors_rank_too_between_0_and_1(about: dict[str, Any]) -> None:
    engine = embedder(**about)
    bounded = await answer(engine, "/rerank", BODY)
    own = await answer(engine, "/rerank", BODY | {"use_activation": False})
    assert order(bounded) == order(own)
    assert all(0 <= result["relevance_score"] <= 1 for result in bounded["results"])


async def test_late_interaction_ranks_between_0_and_1() -> None:
    engine = FakePooling({"tasks": ("token_embed",), "is_late_interaction": True})
    reply = await answer(engine, "/rerank", BODY)
    assert all(0 <= result["relevance_score"] <= 1 for result in reply["results"])


async def test_every_hundred_documents_are_a_unit() -> None:
    reply = await answer(cross_encoder(), "/rerank", {"query": "a", "documents": ["you"] * 101})
    assert reply["meta"]["billed_units"]["search_units"] == 2


@pytest.mark.parametrize("path", PATHS)
async def test_models_that_rank_nothing_say_what_they_do(path: str) -> None:
    code, param, message = await refusal(classifier(), path, BODY)
    assert (code, param) == ("unsupported_task", "model")
    assert "classifies texts" in message
    async with client_of(app_over(FakeEngine())) as client:  # type: ignore[arg-type]
        reply = (await client.post(path, json=BODY)).json()
    assert reply["error"]["code"] == "unsupported_task"
    assert "writes text; it offers no scores of pairs" in reply["detail"]


@pytest.mark.parametrize("path", [*PATHS, "/pooling", "/classify", "/score", "/v1/embeddings", "/v2/embed"])
async def test_all_that_makes_the_model_work_needs_the_key(path: str) -> None:
    assert (await ask(cross_encoder(), path, BODY, api_keys=("key",))).status_code == 401


@pytest.mark.parametrize(
    ("path", "meant"),
    [("/v1/v1/rerank", "/v1/rerank"), ("/v1/v2/rerank", "/v2/rerank"), ("/v2/rerank/", "/v2/rerank")],
)
async def test_a_slip_of_the_base_url_is_told_where_clients_look(path: str, meant: str) -> None:
    reply = await ask(cross_encoder(), path, BODY)
    assert reply.status_code == 404
    assert f"did you mean {meant}" in reply.json()["detail"]
