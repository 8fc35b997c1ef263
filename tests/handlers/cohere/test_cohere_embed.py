"""Cohere's embeddings in all their forms."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from asking_pooling import answer, ask, refusal
from fake_pooling import SIZE, embedder
from hypothesis import given
from hypothesis import strategies as st

from specserve.handlers.cohere.small_numbers import small_numbers

PATHS = ["/v1/embed", "/v2/embed"]
TEXTS = ["a cat", "the mat"]
TYPES = ["float", "int8", "uint8", "binary", "ubinary", "base64"]


async def test_the_first_version_sends_vectors_alone_without_types() -> None:
    engine = embedder()
    reply = await answer(engine, "/v1/embed", {"texts": TEXTS})
    assert reply["response_type"] == "embeddings_floats"
    expected = [engine.data(request).tolist() for request in engine.requests]
    assert np.array(reply["embeddings"], np.float32).tolist() == expected
    assert reply["texts"] == TEXTS


@pytest.mark.parametrize("path", PATHS)
async def test_every_form_says_the_same(path: str) -> None:
    engine = embedder()
    reply = await answer(engine, path, {"texts": TEXTS, "embedding_types": TYPES})
    assert reply["response_type"] == "embeddings_by_type"
    assert reply["meta"]["api_version"]["version"] == path[2]
    vectors = np.stack([engine.data(request) for request in engine.requests])
    forms = reply["embeddings"]
    assert list(forms) == TYPES
    assert np.array(forms["float"], np.float32).tolist() == vectors.tolist()
    assert [base64.b64decode(text) for text in forms["base64"]] == [row.astype("<f4").tobytes() for row in vectors]
    signs = np.unpackbits(np.array(forms["ubinary"], np.uint8), axis=1, bitorder="big")
    assert signs.tolist() == (vectors > 0).astype(int).tolist()
    assert (np.array(forms["binary"]) + 128).tolist() == forms["ubinary"]
    assert (np.array(forms["int8"]) + 128).tolist() == forms["uint8"]


async def test_the_second_version_sends_floats_without_types() -> None:
    for types in (None, []):
        reply = await answer(embedder(), "/v2/embed", {"texts": TEXTS, "embedding_types": types})
        assert list(reply["embeddings"]) == ["float"]
    usage = reply["meta"]["billed_units"]["input_tokens"]
    assert usage == sum(len(request.prompt_token_ids) for request in await requests({"texts": TEXTS}))


async def requests(body: dict[str, Any], **about: Any) -> list[Any]:
    engine = embedder(**about)
    await answer(engine, "/v2/embed", body)
    return engine.requests


@given(seed=st.integers(0, 1000), size=st.sampled_from([8, 64, 384, 1024]))
def test_bytes_keep_the_angles(seed: int, size: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(2, size)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    small = small_numbers(vectors, "int8").astype(np.float64)
    cosine = small[0] @ small[1] / np.linalg.norm(small[0]) / np.linalg.norm(small[1])
    assert cosine == pytest.approx(float(vectors[0] @ vectors[1]), abs=0.02)


@pytest.mark.parametrize(
    ("purpose", "text"),
    [
        ("search_query", "you cat"),
        ("search_document", "the cat"),
        ("classification", "a cat"),
        ("clustering", "a cat"),
        (None, "a cat"),
    ],
)
async def test_what_a_vector_is_for_chooses_the_prompt(purpose: str | None, text: str) -> None:
    prompts = {"query": "you ", "document": "the ", "plain": "a "}
    engine = embedder(prompts=prompts, default_prompt_name="plain")
    await answer(engine, "/v2/embed", {"texts": ["cat"], "input_type": purpose})
    assert list(engine.requests[0].prompt_token_ids) == engine.tokenizer.encode(text, add_special_tokens=True)


@pytest.mark.parametrize(("truncate", "words"), [(None, "start"), ("END", "start"), ("START", "end")])
async def test_long_texts_are_cut_as_truncate_says(truncate: str | None, words: str) -> None:
    engine = embedder()
    long = "a " * 60 + "you"
    reply = await ask(engine, "/v2/embed", {"texts": [long], "truncate": truncate})
    ids = list(engine.requests[0].prompt_token_ids)
    inner = engine.tokenizer.encode(long, add_special_tokens=False)
    assert ids[1:-1] == (inner[:38] if words == "start" else inner[-38:])
    assert reply.headers["x-truncated-prompt-tokens"].endswith("/40")


async def test_without_cut_a_long_text_is_refused() -> None:
    code, param, _ = await refusal(embedder(), "/v2/embed", {"texts": ["a", "a " * 60], "truncate": "NONE"})
    assert (code, param) == ("context_length_exceeded", "texts.1")


async def test_max_tokens_shortens_each_text() -> None:
    found = await requests({"texts": ["a cat sat on", "you"], "max_tokens": 1, "truncate": "START"})
    assert len(found[0].prompt_token_ids) == 3


async def test_inputs_made_of_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "cat"}]
    found = await requests({"inputs": [{"content": parts}]})
    assert [list(one.prompt_token_ids) for one in found] == [
        list(one.prompt_token_ids) for one in await requests({"texts": ["a\ncat"]})
    ]


async def test_shorter_vectors_of_models_trained_for_them() -> None:
    reply = await answer(embedder(matryoshka_dimensions=()), "/v2/embed", {"texts": ["a"], "output_dimension": 8})
    (vector,) = reply["embeddings"]["float"]
    assert len(vector) == 8
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "invalid_parameter_combination", "texts"),
        ({"texts": ["a"], "inputs": [{"content": [{"type": "text", "text": "a"}]}]}, "invalid_parameter_combination",
         "texts"),
        ({"texts": []}, "empty_array", "texts"),
        ({"texts": ["a", ""]}, "invalid_prompt", "texts.1"),
        ({"inputs": [{"content": [{"type": "text"}]}]}, "invalid_prompt", "inputs.0"),
        ({"images": ["data:"]}, "unsupported_parameter", "images"),
        ({"texts": ["a"], "input_type": "image"}, "unsupported_value", "input_type"),
        ({"inputs": [{"content": [{"type": "image_url"}]}]}, "unsupported_value", "inputs.0.content.0"),
        ({"texts": ["a"], "output_dimension": 8}, "unsupported_value", "output_dimension"),
        ({"texts": ["a"], "embedding_types": ["int4"]}, "invalid_value", "embedding_types.0"),
        ({"texts": ["a"] * 2049}, "array_above_max_length", "texts"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", PATHS)
async def test_what_cannot_be_is_refused_by_name(path: str, body: dict[str, Any], code: str, param: str) -> None:
    assert (await refusal(embedder(), path, body))[:2] == (code, param)


async def test_bits_need_eight_numbers_each() -> None:
    engine = embedder(matryoshka_dimensions=())
    body = {"texts": ["a"], "output_dimension": SIZE - 1, "embedding_types": ["binary"]}
    assert (await refusal(engine, "/v2/embed", body))[:2] == ("unsupported_value", "embedding_types")
    assert engine.calls == []
