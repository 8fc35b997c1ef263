"""/pooling, /classify and /score over engines whose numbers can be recomputed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from asking_pooling import answer, ask, refusal
from fake_pooling import SIZE, FakePooling, classifier, cross_encoder, embedder

from specserve.handlers.chat.prompts import Prompts, TemplateOptions

ALL = {"tasks": ("token_embed", "embed", "classify", "token_classify"), "labels": ("a", "b", "c")}
PAIR_TEMPLATE = "{{ instruction | default('answers') }} : {{ query }} ? {{ document }}"


@pytest.mark.parametrize("task", [None, "embed", "classify", "token_embed", "token_classify"])
@pytest.mark.parametrize("path", ["/pooling", "/v1/pooling"])
async def test_pooling_gives_what_the_task_makes(path: str, task: str | None) -> None:
    engine = FakePooling(ALL)
    reply = await answer(engine, path, {"input": ["a cat", "the mat"], "task": task})
    assert engine.requests[0].params.task == (task or "token_embed")
    for entry, request in zip(reply["data"], engine.requests, strict=True):
        assert entry["object"] == "pooling"
        assert np.array(entry["data"], np.float32).tolist() == engine.data(request).tolist()
    assert reply["id"].startswith("pooling-")


async def test_rows_of_tokens_are_told_in_the_header_of_bytes() -> None:
    engine = FakePooling(ALL)
    reply = await ask(engine, "/pooling", {"input": "a cat", "encoding_format": "bytes"})
    num_tokens = len(engine.requests[0].prompt_token_ids)
    assert reply.content == engine.data(engine.requests[0]).tobytes()
    assert f'"shape":[{num_tokens},{SIZE}]' in reply.headers["metadata"]


@pytest.mark.parametrize(
    ("engine", "body", "code", "param"),
    [
        (embedder(), {"task": "classify"}, "unsupported_task", "task"),
        (classifier(), {"task": "embed"}, "unsupported_task", "task"),
        (classifier(), {"dimensions": 4}, "unsupported_parameter", "dimensions"),
        (embedder(), {"dimensions": 4}, "unsupported_value", "dimensions"),
        (embedder(), {"task": "encode"}, "invalid_value", "task"),
    ],
)
async def test_pooling_refuses_what_the_model_cannot_do(
    engine: FakePooling, body: dict[str, Any], code: str, param: str
) -> None:
    assert (await refusal(engine, "/pooling", {"input": "a"} | body))[:2] == (code, param)


@pytest.mark.parametrize("path", ["/classify", "/v1/classify"])
async def test_classes_have_names_and_probabilities(path: str) -> None:
    engine = classifier()
    reply = await answer(engine, path, {"input": ["a cat", "the mat"]})
    for entry, request in zip(reply["data"], engine.requests, strict=True):
        expected = engine.data(request)
        assert np.array(entry["probs"], np.float32).tolist() == expected.tolist()
        assert entry["label"] == ("bad", "fair", "good")[int(expected.argmax())]
        assert entry["num_classes"] == 3
    assert sum(reply["data"][0]["probs"]) == pytest.approx(1, abs=1e-6)


async def test_scores_of_classes_come_without_softmax_when_asked_for() -> None:
    probs = (await answer(classifier(), "/classify", {"input": "a cat", "use_activation": False}))["data"][0]["probs"]
    assert sum(probs) != pytest.approx(1, abs=1e-3)


# ---- /score: a model that reads pairs


def scores(reply: dict[str, Any]) -> list[float]:
    assert [entry["index"] for entry in reply["data"]] == list(range(len(reply["data"])))
    return [entry["score"] for entry in reply["data"]]


NAMES = [("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2")]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("path", ["/score", "/v1/score"])
async def test_a_pair_is_read_with_its_segments(path: str, names: tuple[str, str]) -> None:
    engine = cross_encoder()
    reply = await answer(engine, path, {names[0]: "a cat", names[1]: ["the mat", "you"]})
    for request, second in zip(engine.requests, ["the mat", "you"], strict=True):
        assert (list(request.prompt_token_ids), list(request.token_type_ids or [])) == engine.tokenizer.encode_pair(
            "a cat", second
        )
    assert scores(reply) == [float(engine.data(request)[0]) for request in engine.requests]


async def test_one_by_one_and_one_for_all() -> None:
    async def ask_for(first: Any, second: Any) -> list[float]:
        return scores(await answer(cross_encoder(), "/score", {"text_1": first, "text_2": second}))

    single = [await ask_for(first, second) for first, second in [("a", "hello"), ("the", "you")]]
    assert await ask_for(["a", "the"], ["hello", "you"]) == [single[0][0], single[1][0]]
    assert await ask_for("a", "hello") == await ask_for(["a"], ["hello"]) == single[0]
    code, param, _ = await refusal(cross_encoder(), "/score", {"text_1": ["a", "b"], "text_2": ["c", "d", "e"]})
    assert (code, param) == ("invalid_parameter_combination", "text_1")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "queries"),
        ({"text_1": "a"}, "missing_required_parameter", "text_2"),
        ({"documents": "a"}, "missing_required_parameter", "queries"),
        ({"text_1": "a", "text_2": "b", "data_1": "c"}, "invalid_parameter_combination", "data_1"),
        ({"text_1": "", "text_2": "b"}, "invalid_prompt", "text_1"),
        ({"text_1": "a", "text_2": ["b", ""]}, "invalid_prompt", "text_2.1"),
        ({"text_1": "a", "text_2": ["b", {"title": "c"}]}, "invalid_prompt", "text_2.1"),
        ({"text_1": "a", "text_2": {"content": [{"type": "image_url"}]}}, "unsupported_value", "text_2.content.0"),
        ({"text_1": "a", "text_2": ["b", "a " * 50]}, "context_length_exceeded", "text_2.1"),
        ({"text_1": "a", "text_2": "b", "instruction": "c"}, "unsupported_parameter", "instruction"),
        ({"text_1": "a", "text_2": "b", "chat_template_kwargs": {"c": 1}}, "unsupported_parameter",
         "chat_template_kwargs"),
        ({"text_1": "a", "text_2": "b", "truncate_prompt_tokens": 3}, "unsupported_value", "truncate_prompt_tokens"),
    ],
)  # fmt: skip
async def test_what_is_no_pair_is_refused_by_name(body: dict[str, Any], code: str, param: str) -> None:
    assert (await refusal(cross_encoder(), "/score", body))[:2] == (code, param)


async def test_texts_come_in_objects_too() -> None:
    body = {"queries": {"content": [{"type": "text", "text": "a cat"}]}, "documents": [{"text": "the mat"}, "you"]}
    plain = await answer(cross_encoder(), "/score", {"queries": "a cat", "documents": ["the mat", "you"]})
    assert scores(await answer(cross_encoder(), "/score", body)) == scores(plain)


@pytest.mark.parametrize(("asked", "expected"), [(None, None), (True, False), (False, False)])
async def test_the_last_step_is_the_models_own_unless_asked(asked: bool | None, expected: bool | None) -> None:
    engine = cross_encoder()
    value = scores(await answer(engine, "/score", {"text_1": "a", "text_2": "you", "use_activation": asked}))[0]
    assert engine.requests[0].params.use_activation is expected
    raw = float(engine.data(engine.requests[0])[0])
    assert value == pytest.approx(1 / (1 + np.exp(-raw)) if asked else raw)


async def test_the_longer_text_of_a_pair_is_cut_and_told() -> None:
    engine = cross_encoder()
    body = {"text_1": "a b c", "text_2": "d e f g h i", "truncate_prompt_tokens": 9}
    reply = await ask(engine, "/score", body)
    encode = engine.tokenizer.encode_pair
    assert list(engine.requests[0].prompt_token_ids) == encode("a b c", "d e f")[0]
    assert reply.headers["x-truncated-prompt-tokens"] == "12/9"
    await ask(engine, "/score", body | {"truncation_side": "left"})
    assert list(engine.requests[1].prompt_token_ids) == encode("a b c", "g h i")[0]


async def test_each_side_may_be_shortened() -> None:
    engine = cross_encoder()
    body = {"text_1": "a b c", "text_2": ["d e f g", "h"], "max_tokens_per_query": 1, "max_tokens_per_doc": 2}
    await answer(engine, "/score", body)
    expected = [engine.tokenizer.encode_pair("a", second)[0] for second in ("d e", "h")]
    assert [list(request.prompt_token_ids) for request in engine.requests] == expected


async def test_a_classifier_of_many_classes_scores_nothing() -> None:
    code, param, message = await refusal(classifier(), "/score", {"text_1": "a", "text_2": "b"})
    assert (code, param) == ("unsupported_task", "model")
    assert "into 3 classes" in message


# ---- /score: models that make vectors


@pytest.mark.parametrize("kind", ["cosine", "dot", "euclidean", "manhattan"])
async def test_vectors_are_compared_as_the_model_says(kind: str) -> None:
    engine = embedder(similarity=kind)
    found = scores(await answer(engine, "/score", {"text_1": "a cat", "text_2": ["the mat", "you"]}))
    query, *documents = (engine.data(request).astype(np.float64) for request in engine.requests)
    functions = {
        "cosine": lambda one: one @ query,
        "dot": lambda one: one @ query,
        "euclidean": lambda one: -np.linalg.norm(one - query),
        "manhattan": lambda one: -np.abs(one - query).sum(),
    }
    assert found == pytest.approx([functions[kind](one) for one in documents], abs=1e-6)
    assert len(engine.requests) == 3


async def test_queries_and_documents_get_their_prompts_and_plain_texts_do_not() -> None:
    engine = embedder(prompts={"query": "you ", "passage": "the "})
    await answer(engine, "/score", {"queries": "cat", "documents": ["mat"]})
    await answer(engine, "/score", {"text_1": "cat", "text_2": ["mat"]})
    texts = ["you cat", "the mat", "cat", "mat"]
    expected = [engine.tokenizer.encode(text, add_special_tokens=True) for text in texts]
    assert [list(request.prompt_token_ids) for request in engine.requests] == expected


async def test_late_interaction_adds_up_the_best_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = {"query_prefix_ids": (10,), "document_prefix_ids": (11,)}
    about = {"tasks": ("token_embed",), "is_late_interaction": True} | marks
    engine = FakePooling(about)
    texts = ["the mat", "you", "a cat sat"]
    found = scores(await answer(engine, "/score", {"text_1": "a cat", "text_2": texts}))
    query, *documents = engine.requests
    assert [list(request.prompt_token_ids[:2]) for request in engine.requests] == [[2, 10], [2, 11], [2, 11], [2, 11]]
    rows = engine.data(query).astype(np.float64)
    expected = [(rows @ engine.data(one).astype(np.float64).T).max(axis=1).sum() for one in documents]
    assert found == pytest.approx(expected, abs=1e-6)
    # In slices, for one query and for many.
    monkeypatch.setattr("specserve.handlers.pooling.scoring.NUMBERS_AT_ONCE", SIZE * 8)
    sliced = FakePooling(about)
    assert scores(await answer(sliced, "/score", {"text_1": "a cat", "text_2": texts})) == found
    assert len(sliced.calls) > 1
    assert scores(await answer(sliced, "/score", {"text_1": ["a cat"] * 3, "text_2": texts})) == found
    assert scores(await answer(engine, "/score", {"text_1": ["a cat"] * 3, "text_2": texts})) == found


# ---- /score: decoders that judge a pair in one prompt


def judge() -> FakePooling:
    about = {"tasks": ("classify",), "labels": ("LABEL_0",), "is_decoder_reranker": True, "has_token_types": False}
    return FakePooling(about, kind="byte_level")


def written(engine: FakePooling, at: int = 0) -> str:
    assert engine.requests[at].token_type_ids is None
    return engine.tokenizer.decode(engine.requests[at].prompt_token_ids)


PAIR_PROMPTS = Prompts(TemplateOptions(chat_template=PAIR_TEMPLATE, trusts_requests=True))


async def test_a_template_writes_the_pair() -> None:
    engine = judge()
    await answer(engine, "/score", {"queries": "a cat", "documents": ["the mat", "you"]}, prompts=PAIR_PROMPTS)
    assert [written(engine, at) for at in (0, 1)] == ["answers : a cat ? the mat", "answers : a cat ? you"]
    body = {"queries": "a cat", "documents": "you", "instruction": "greets"}
    await answer(engine, "/score", body, prompts=PAIR_PROMPTS)
    assert written(engine, 2) == "greets : a cat ? you"
    own = {"chat_template": "{{ messages[0].role }}={{ query }} {{ more }}", "chat_template_kwargs": {"more": "yes"}}
    await answer(engine, "/score", body | own, prompts=PAIR_PROMPTS)
    assert written(engine, 3) == "query=a cat yes"


async def test_cuts_take_from_the_document_and_leave_the_template_whole() -> None:
    engine = judge()
    body = {"queries": "a", "documents": "you hello the mat", "truncate_prompt_tokens": 18}
    await answer(engine, "/score", body, prompts=PAIR_PROMPTS)
    assert len(engine.requests[0].prompt_token_ids) <= 18
    text = written(engine)
    assert text.startswith("answers : a ? you")
    assert not text.endswith("mat")


async def test_a_family_without_template_has_the_prompt_of_its_cards() -> None:
    engine = judge()
    engine.about |= {"max_model_len": 1000}
    talking = Prompts(TemplateOptions(chat_template="{{ messages }}<|im_start|>assistant"))
    await answer(engine, "/score", {"queries": "a cat", "documents": "you"}, prompts=talking)
    text = written(engine)
    assert "<Query>: a cat\n<Document>: you<|im_end|>" in text
    assert text.endswith("<think>\n\n</think>\n\n")
    code, param, message = await refusal(
        engine, "/score", {"queries": "a", "documents": "b"}, prompts=Prompts(TemplateOptions(chat_template="{{ 1 }}"))
    )
    assert (code, param) == ("invalid_prompt", "query")
    assert "--chat-template" in message
