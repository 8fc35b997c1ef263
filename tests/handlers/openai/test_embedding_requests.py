"""POST /v1/embeddings over an engine whose vectors can be recomputed."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import numpy as np
import pytest
from asking_pooling import answer, ask, refusal
from fake_engine import FakeEngine, app_over, client_of
from fake_pooling import MAX_MODEL_LEN, SIZE, FakePooling, embedder
from hypothesis import given, settings
from hypothesis import strategies as st

from specserve.engine.errors import EngineDeadError, OverloadedError
from specserve.handlers.limits import Limits

PATH = "/v1/embeddings"
HELLO = "hello you"


def vectors(reply: dict[str, Any]) -> list[list[float]]:
    assert [entry["index"] for entry in reply["data"]] == list(range(len(reply["data"])))
    return [entry["embedding"] for entry in reply["data"]]


async def test_a_text_gets_the_models_vector() -> None:
    engine = embedder()
    reply = await answer(engine, PATH, {"input": HELLO})
    expected = engine.tokenizer.encode(HELLO, add_special_tokens=True)
    assert list(engine.requests[0].prompt_token_ids) == expected
    assert np.array(vectors(reply)[0], np.float32).tolist() == engine.data(engine.requests[0]).tolist()
    assert reply["object"] == "list"
    assert reply["model"] == "fake"
    assert reply["usage"]["prompt_tokens"] == reply["usage"]["total_tokens"] == len(expected)


async def test_all_forms_of_input_say_the_same() -> None:
    engine = embedder()
    ids = engine.tokenizer.encode(HELLO, add_special_tokens=True)
    replies = [await answer(engine, PATH, {"input": form}) for form in (HELLO, [HELLO], ids, [ids])]
    assert len({json.dumps(vectors(reply)) for reply in replies}) == 1
    several = await answer(engine, PATH, {"input": [HELLO, "a cat", HELLO]})
    assert vectors(several)[0] == vectors(several)[2] == vectors(replies[0])[0]


@settings(max_examples=20)
@given(texts=st.lists(st.sampled_from(["hello", "a cat sat", "the mat", "you"]), min_size=1, max_size=6))
async def test_base64_has_the_bits_of_the_floats(texts: list[str]) -> None:
    floats = vectors(await answer(embedder(), PATH, {"input": texts, "encoding_format": "float"}))
    encoded = vectors(await answer(embedder(), PATH, {"input": texts, "encoding_format": "base64"}))
    for numbers, text in zip(floats, encoded, strict=True):
        assert np.array(numbers, dtype="<f4").tobytes() == base64.b64decode(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float16", 2), ("bfloat16", 2), ("fp8_e4m3", 1)])
@pytest.mark.parametrize("endianness", ["native", "little", "big"])
async def test_bytes_are_found_where_the_header_says(dtype: str, size: int, endianness: str) -> None:
    body = {"input": [HELLO, "a cat"], "embed_dtype": dtype, "endianness": endianness}
    reply = await ask(embedder(), PATH, body | {"encoding_format": "bytes"})
    assert reply.headers["content-type"] == "application/octet-stream"
    metadata = json.loads(reply.headers["metadata"])
    encoded = vectors(await answer(embedder(), PATH, body | {"encoding_format": "base64"}))
    for place, text in zip(metadata["data"], encoded, strict=True):
        assert place["end"] - place["start"] == SIZE * size
        assert reply.content[place["start"] : place["end"]] == base64.b64decode(text)  # type: ignore[arg-type]
        assert (place["embed_dtype"], place["shape"]) == (dtype, [SIZE])
        assert place["endianness"] == ("big" if endianness == "big" else "little")
    alone = await ask(embedder(), PATH, body | {"encoding_format": "bytes_only"})
    assert alone.content == reply.content
    assert "metadata" not in alone.headers


async def test_places_that_fill_no_header_are_refused() -> None:
    body = {"input": ["a"] * 1000, "encoding_format": "bytes"}
    code, param, message = await refusal(embedder(), PATH, body)
    assert (code, param) == ("unsupported_value", "encoding_format")
    assert "bytes_only" in message
    assert (await ask(embedder(), PATH, body | {"encoding_format": "bytes_only"})).status_code == 200


async def test_all_inputs_are_sent_to_the_engine_at_once() -> None:
    engine = embedder()
    await answer(engine, PATH, {"input": ["a", "b", "c"], "priority": 3, "cache_salt": "mine"})
    (call,) = engine.calls
    assert [(one.priority, one.cache_salt) for one in call] == [(3, "mine")] * 3
    assert len({one.request_id for one in call}) == 3


async def test_a_conversation_is_written_by_the_chat_template() -> None:
    template = (
        "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}{% if add_generation_prompt %}!{% endif %}"
    )
    engine = FakePooling({}, kind="word_piece")
    engine.tokenizer = WithTemplate(engine.tokenizer, template)
    talk = [{"role": "user", "content": "hello"}]
    for body, text in [
        ({"messages": talk}, "user hello "),
        ({"messages": talk, "add_generation_prompt": True}, "user hello !"),
    ]:
        await answer(engine, PATH, body)
        expected = engine.tokenizer.encode(text, add_special_tokens=False)
        assert list(engine.requests[-1].prompt_token_ids) == expected
    await answer(engine, PATH, {"messages": talk, "add_special_tokens": True})
    assert engine.requests[-1].prompt_token_ids[0] == 2
    both = await answer(engine, PATH, {"messages": [talk, [{"role": "user", "content": "you"}]]})
    assert len(both["data"]) == 2


class WithTemplate:
    def __init__(self, tokenizer: Any, template: str) -> None:
        self._tokenizer = tokenizer
        self.chat_templates = {"default": template}
        self.chat_template = template

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "input"),
        ({"input": None}, "missing_required_parameter", "input"),
        ({"input": "a", "messages": [{"role": "user", "content": "a"}]}, "invalid_parameter_combination", "messages"),
        ({"input": "a", "chat_template_kwargs": {"a": 1}}, "invalid_parameter_combination", "chat_template_kwargs"),
        ({"input": ""}, "invalid_prompt", "input"),
        ({"input": ["a", ""]}, "invalid_prompt", "input.1"),
        ({"input": [7, 100000]}, "token_out_of_vocabulary", "input.1"),
        ({"input": [[7], [100000]]}, "token_out_of_vocabulary", "input.1.0"),
        ({"input": [7], "add_special_tokens": True}, "unsupported_value", "add_special_tokens"),
        ({"input": []}, "empty_array", "input"),
        ({"input": ["a"] * 2049}, "array_above_max_length", "input"),
        ({"input": "a", "truncate_prompt_tokens": 0}, "unsupported_value", "truncate_prompt_tokens"),
        ({"input": "a", "truncate_prompt_tokens": 2}, "unsupported_value", "truncate_prompt_tokens"),
        ({"input": "a", "truncate_prompt_tokens": 41}, "unsupported_value", "truncate_prompt_tokens"),
        ({"input": "a", "dimensions": 8}, "unsupported_value", "dimensions"),
        ({"input": "a", "normalize": True, "use_activation": False}, "invalid_parameter_combination", "use_activation"),
        ({"input": "a", "mm_processor_kwargs": {"a": 1}}, "unsupported_parameter", "mm_processor_kwargs"),
        ({"input": "a", "encoding_format": "hex"}, "invalid_value", "encoding_format"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused_by_name(body: dict[str, Any], code: str, param: str) -> None:
    engine = embedder()
    assert (await refusal(engine, PATH, body))[:2] == (code, param)
    assert engine.calls == []


async def test_an_input_that_is_too_long_is_named_with_its_numbers() -> None:
    code, param, message = await refusal(embedder(), PATH, {"input": ["a", "a " * 60]})
    assert (code, param) == ("context_length_exceeded", "input.1")
    assert "62 tokens" in message
    assert str(MAX_MODEL_LEN) in message


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"truncate_prompt_tokens": 6}, [2, "abcd", 3]),
        ({"truncate_prompt_tokens": 6, "truncation_side": "right"}, [2, "abcd", 3]),
        ({"truncate_prompt_tokens": 6, "truncation_side": "left"}, [2, "efgh", 3]),
        ({"truncate_prompt_tokens": 6, "add_special_tokens": False}, ["abcdef"]),
        ({"truncate_prompt_tokens": -1}, [2, "abcdefgh", 3]),
    ],
)
async def test_cuts_keep_the_special_tokens(fields: dict[str, Any], kept: list[Any]) -> None:
    engine = embedder()
    reply = await ask(engine, PATH, {"input": "a b c d e f g h"} | fields)
    expected: list[int] = []
    for part in kept:
        words = " ".join(part) if isinstance(part, str) else ""
        expected += engine.tokenizer.encode(words, add_special_tokens=False) if words else [part]
    assert list(engine.requests[0].prompt_token_ids) == expected
    before = 8 if fields.get("add_special_tokens") is False else 10
    was_cut = len(expected) < before
    assert reply.headers.get("x-truncated-prompt-tokens") == (f"{before}/{len(expected)}" if was_cut else None)


@pytest.mark.parametrize(
    ("trained", "asked", "answered"),
    [((), 4, 4), ((), SIZE, SIZE), ((4, 8), 8, 8), ((4, 8), SIZE, SIZE), (None, SIZE, SIZE)],
)
async def test_vectors_are_shortened_and_have_length_1_again(trained: Any, asked: int, answered: int) -> None:
    engine = embedder(matryoshka_dimensions=trained)
    whole = np.array(vectors(await answer(engine, PATH, {"input": HELLO}))[0])
    short = np.array(vectors(await answer(engine, PATH, {"input": HELLO, "dimensions": asked}))[0])
    assert short.shape == (answered,)
    assert short == pytest.approx(whole[:answered] / np.linalg.norm(whole[:answered]), abs=1e-6)


@pytest.mark.parametrize(("trained", "allowed"), [((4, 8), "4, 8, 16"), ((), "1 to 16"), (None, "leave it out")])
async def test_a_size_the_model_was_not_trained_for_is_refused_with_those_it_was(trained: Any, allowed: str) -> None:
    code, param, message = await refusal(
        embedder(matryoshka_dimensions=trained), PATH, {"input": "a", "dimensions": 17}
    )
    assert (code, param) == ("unsupported_value", "dimensions")
    assert allowed in message


@pytest.mark.parametrize("name", ["use_activation", "normalize", "activation", "softmax"])
async def test_vectors_of_their_own_length_are_sent_when_asked_for(name: str) -> None:
    engine = embedder()
    raw = vectors(await answer(engine, PATH, {"input": HELLO, name: False}))[0]
    assert engine.requests[0].params.use_activation is False
    assert abs(np.linalg.norm(raw) - 1) > 1e-3


async def test_the_models_default_prompt_stands_before_texts_only() -> None:
    engine = embedder(prompts={"query": "you "}, default_prompt_name="query")
    await answer(engine, PATH, {"input": "cat"})
    assert list(engine.requests[0].prompt_token_ids) == engine.tokenizer.encode("you cat", add_special_tokens=True)
    await answer(engine, PATH, {"input": [7, 8]})
    assert list(engine.requests[1].prompt_token_ids) == [7, 8]


async def test_a_model_that_writes_says_so() -> None:
    async with client_of(app_over(FakeEngine())) as client:  # type: ignore[arg-type]
        error = (await client.post(PATH, json={"input": "a"})).json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_task", "model")
    assert "the model fake writes text; it offers no embeddings" in error["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_model_that_embeds_does_not_write(path: str) -> None:
    body = {"prompt": "a"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "a"}]}
    code, param, message = await refusal(embedder(), path, body)
    assert (code, param) == ("unsupported_task", "model")
    assert "makes one vector of a text" in message


async def test_more_numbers_than_an_answer_may_have_are_refused() -> None:
    limits = Limits(max_answer_numbers=SIZE * 3)
    assert len((await answer(embedder(), PATH, {"input": ["a"] * 3}, limits=limits))["data"]) == 3
    code, param, message = await refusal(embedder(), PATH, {"input": ["a"] * 4}, limits=limits)
    assert (code, param) == ("unsupported_value", "input")
    assert "64 numbers, the limit is 48" in message


@pytest.mark.parametrize(("error", "status"), [(OverloadedError("full"), 503), (EngineDeadError("gone"), 503)])
async def test_the_engines_errors_are_told(error: Any, status: int) -> None:
    engine = embedder()
    engine.refusal = error
    assert (await ask(engine, PATH, {"input": "a"})).status_code == status


async def test_numbers_that_are_none_are_a_fault_of_the_server() -> None:
    engine = embedder()
    engine.rows[:] = np.nan
    assert (await ask(engine, PATH, {"input": "a"})).status_code == 500


async def test_a_client_who_leaves_ends_its_request() -> None:
    engine = embedder()
    engine.pause_s = 3600
    app = app_over(engine)  # type: ignore[arg-type]
    messages = [{"type": "http.request", "body": b'{"input": ["a", "b"]}', "more_body": False}]
    left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError("nobody is there")

    scope = {"type": "http", "method": "POST", "path": PATH, "query_string": b""}
    request = asyncio.create_task(app(scope | {"headers": [(b"content-type", b"application/json")]}, receive, send))
    while not engine.calls:  # noqa: ASYNC110
        await asyncio.sleep(0)
    left.set()
    await request
    assert engine.num_cancelled == 1
