"""What a completion request can ask of its prompts and choices: candidates, beams, cuts, embeddings."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import torch
from asking import ask, refusal
from fake_engine import TOKENIZER, FakeEngine, app_over, client_of
from local_engine import LocalEngine, write_model
from safetensors.torch import save
from tiny_checkpoints import oracle

from specserve.engine.api import GenerationOutput, GenerationRequest
from specserve.handlers.limits import Limits
from specserve.handlers.truncation import HEADER

IDS = TOKENIZER.encode("one two three four five six", add_special_tokens=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("completions"), "byte_fallback")


@pytest.fixture(scope="module")
def engine(folder: Path) -> LocalEngine:
    return LocalEngine(folder, max_model_len=64)


class RankedEngine(FakeEngine):
    """The later a choice, the likelier each of its tokens."""

    async def _outputs(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]:
        async for output in super()._outputs(request):
            assert output.logprobs is not None
            likelier = [
                dataclasses.replace(
                    token, sampled=dataclasses.replace(token.sampled, logprob=-1 / (1 + request.index % 4))
                )
                for token in output.logprobs
            ]
            yield dataclasses.replace(output, logprobs=tuple(likelier))


def answers(request: GenerationRequest) -> str:
    return ["A rather long first answer.", "Second.", "And a third one.", "Fourth, the best of all."][request.index % 4]


# ---- best_of


async def test_the_best_are_those_with_the_likeliest_tokens_whatever_their_length() -> None:
    engine = RankedEngine(answers)
    body = {"prompt": ["a", "b"], "n": 2, "best_of": 4, "max_tokens": 50}
    reply = await ask(engine, body)
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in reply["choices"]] == ["Fourth, the best of all.", "And a third one."] * 2
    assert all(choice["logprobs"] is None for choice in reply["choices"])
    all_tokens = sum(len(TOKENIZER.encode(answers(one), add_special_tokens=False)) + 1 for one in engine.requests)
    assert reply["usage"]["completion_tokens"] == all_tokens
    assert len(engine.requests) == 8
    shown = await ask(RankedEngine(answers), body | {"logprobs": 0})
    assert shown["choices"][0]["logprobs"]["token_logprobs"][0] == -1 / 4


async def test_best_of_a_real_model_is_the_best_of_its_samples(engine: LocalEngine) -> None:
    body = {"prompt": "hello", "max_tokens": 6, "seed": 3, "temperature": 1.5, "logprobs": 0}
    samples = (await ask(engine, body | {"n": 5}))["choices"]
    means = [sum(one["logprobs"]["token_logprobs"]) / len(one["logprobs"]["tokens"]) for one in samples]
    (best,) = (await ask(engine, body | {"best_of": 5}))["choices"]
    assert best["text"] == samples[means.index(max(means))]["text"]


@pytest.mark.parametrize(
    "fields", [{"n": 3, "best_of": 3, "stream": True}, {"best_of": 0}, {"best_of": None}, {"n": 2}]
)
async def test_as_many_candidates_as_answers_need_no_ranking(fields: dict[str, Any]) -> None:
    engine = FakeEngine()
    async with client_of(app_over(engine)) as client:
        reply = await client.post("/v1/completions", json={"prompt": "a"} | fields)
    assert reply.status_code == 200
    assert len(engine.requests) == fields.get("n", 1)
    assert all(request.params.logprobs is None for request in engine.requests)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"n": 3, "best_of": 2}, "invalid_parameter_combination", "best_of"),
        ({"best_of": 3, "stream": True}, "invalid_parameter_combination", "best_of"),
        ({"best_of": 3, "use_beam_search": True}, "invalid_parameter_combination", "best_of"),
        ({"best_of": 4, "prompt": ["a"] * 3}, "unsupported_value", "n"),
    ],
)
async def test_candidates_that_make_no_sense_are_refused(fields: dict[str, Any], code: str, param: str) -> None:
    body = {"prompt": "a"} | fields
    assert await refusal(FakeEngine(), body, limits=Limits(max_choices=10)) == (code, param)


# ---- several samples of a greedy answer


async def test_greedy_answers_of_one_prompt_are_all_the_same(engine: LocalEngine) -> None:
    """OpenAI's servers allow it and clients rely on it; others refuse."""
    reply = await ask(engine, {"prompt": "hello", "n": 3, "temperature": 0, "max_tokens": 5})
    assert len({choice["text"] for choice in reply["choices"]}) == 1


# ---- beam search over the wire; its results are compared with transformers in tests/handlers/chat


async def test_beams_answer_several_prompts_best_first(engine: LocalEngine, folder: Path) -> None:
    texts = ["hello world", "one two"]
    body = {
        "prompt": texts,
        "use_beam_search": True,
        "n": 3,
        "max_tokens": 6,
        "length_penalty": 0.5,
        "ignore_eos": True,
    }
    reply = await ask(engine, body | {"logprobs": 1, "return_token_ids": True, "echo": False})
    model = oracle(folder)
    for number, text in enumerate(texts):
        prompt = engine.tokenizer.encode(text, add_special_tokens=True)
        with torch.inference_mode():
            beams = model.generate(
                torch.tensor([prompt]), num_beams=3, num_return_sequences=3, max_new_tokens=6, length_penalty=0.5,
                do_sample=False, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        choices = reply["choices"][number * 3 : number * 3 + 3]
        assert [choice["index"] for choice in choices] == [number * 3 + place for place in range(3)]
        assert [choice["token_ids"] for choice in choices] == beams[:, len(prompt) :].tolist()
        sums = [sum(choice["logprobs"]["token_logprobs"]) for choice in choices]
        assert sums == sorted(sums, reverse=True)
        for choice in choices:
            both = engine.tokenizer.decode([*prompt, *choice["token_ids"]], skip_special_tokens=True)
            if "\ufffd" not in both:
                assert text + choice["text"] == both
    assert reply["usage"]["completion_tokens"] == 2 * 3 * 6


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"stream": True}, "invalid_parameter_combination", "stream"),
        ({"stop": "x"}, "invalid_parameter_combination", "stop"),
        ({"presence_penalty": 0.5}, "invalid_parameter_combination", "presence_penalty"),
        ({"repetition_penalty": 1.1}, "invalid_parameter_combination", "repetition_penalty"),
        ({"logit_bias": {"5": 1}}, "invalid_parameter_combination", "logit_bias"),
        ({"allowed_token_ids": [5]}, "invalid_parameter_combination", "allowed_token_ids"),
        ({"bad_words": ["x"]}, "invalid_parameter_combination", "bad_words"),
        ({"prompt_logprobs": 0}, "invalid_parameter_combination", "prompt_logprobs"),
        ({"echo": True, "logprobs": 1}, "invalid_parameter_combination", "echo"),
        ({"echo": True, "max_tokens": 0}, "invalid_parameter_combination", "max_tokens"),
        ({"length_penalty": 21}, "unsupported_value", "length_penalty"),
        ({"n": 65}, "unsupported_value", "n"),
    ],
)  # fmt: skip
async def test_beams_refuse_what_they_cannot_follow(fields: dict[str, Any], code: str, param: str) -> None:
    assert await refusal(FakeEngine(), {"prompt": "a", "use_beam_search": True} | fields) == (code, param)


# ---- truncation


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"truncate_prompt_tokens": 3}, IDS[-3:]),
        ({"truncate_prompt_tokens": 3, "truncation_side": "left"}, IDS[-3:]),
        ({"truncate_prompt_tokens": 3, "truncation_side": "right"}, IDS[:3]),
        ({"truncate_prompt_tokens": len(IDS)}, IDS),
        ({"truncate_prompt_tokens": 40}, IDS),
        ({"truncate_prompt_tokens": -1}, IDS),
        ({"truncate_prompt_tokens": None, "truncation_side": "right"}, IDS),
    ],
)
async def test_prompts_are_cut_only_where_asked(fields: dict[str, Any], expected: list[int]) -> None:
    for prompt in (IDS, "one two three four five six"):
        engine = FakeEngine()
        body = {"prompt": prompt, "add_special_tokens": False, "max_tokens": 2, "echo": True} | fields
        reply = await ask(engine, body)
        assert engine.requests[0].prompt_token_ids == expected
        assert reply["usage"]["prompt_tokens"] == len(expected)
        assert reply["choices"][0]["text"].startswith(TOKENIZER.decode(expected))
        cut = f"{len(IDS)}/{len(expected)}" if len(expected) < len(IDS) else None
        assert reply["headers"].get(HEADER) == cut


async def test_minus_one_leaves_one_token_for_the_answer() -> None:
    engine = FakeEngine(max_model_len=32)
    long = [5 + at % 50 for at in range(100)]
    reply = await ask(engine, {"prompt": [long, long[:4]], "truncate_prompt_tokens": -1, "max_tokens": 9})
    assert [request.prompt_token_ids for request in engine.requests[:2]] == [long[-31:], long[:4]]
    assert [request.params.max_tokens for request in engine.requests[:2]] == [1, 9]
    assert reply["headers"][HEADER] == "104/35"
    assert await refusal(engine, {"prompt": long}) == ("context_length_exceeded", "prompt")


async def test_special_tokens_before_the_text_survive_a_cut(engine: LocalEngine) -> None:
    whole = engine.tokenizer.encode("hello world", add_special_tokens=True)
    for side, expected in (("left", [whole[0], *whole[-3:]]), ("right", whole[:4])):
        await ask(
            engine, {"prompt": "hello world", "truncate_prompt_tokens": 4, "truncation_side": side, "temperature": 0}
        )
        assert engine.requests[-1].prompt_token_ids == expected


async def test_a_cut_prompt_is_echoed_with_its_probabilities(engine: LocalEngine) -> None:
    body = {"prompt": "hello world 你", "truncate_prompt_tokens": 6, "echo": True, "logprobs": 1, "max_tokens": 2}
    (choice,) = (await ask(engine, body | {"temperature": 0}))["choices"]
    assert len(choice["logprobs"]["tokens"]) == 6 + 2


@pytest.mark.parametrize("asked", [0, 257])
async def test_a_cut_to_nothing_or_beyond_the_context_is_refused(asked: int) -> None:
    body = {"prompt": "a", "truncate_prompt_tokens": asked}
    assert await refusal(FakeEngine(), body) == ("unsupported_value", "truncate_prompt_tokens")


# ---- prompts


@pytest.mark.parametrize("prompt", ["", [], None, [""], ["a", ""], [[]], [[5], []]])
async def test_an_empty_prompt_is_refused(prompt: Any) -> None:
    _, param = await refusal(FakeEngine(), {"prompt": prompt})
    assert param is not None
    assert param.startswith("prompt")


async def test_a_request_without_any_prompt_is_told_what_is_missing() -> None:
    assert await refusal(FakeEngine(), {"max_tokens": 4}) == ("missing_required_parameter", "prompt")


@pytest.mark.parametrize("prompt", [["a", 5], [5, "a"], [[5], "a"], [[5], 6], ["a"] * 1025, [-1], 5])
async def test_mixed_or_too_many_prompts_are_refused(prompt: Any) -> None:
    async with client_of(app_over(FakeEngine())) as client:
        reply = await client.post("/v1/completions", json={"prompt": prompt})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"].startswith("prompt")


# ---- embedded prompts


def embedded(rows: torch.Tensor) -> str:
    return base64.b64encode(save({"prompt_embeds": rows.contiguous()})).decode()


@pytest.fixture(scope="module")
def embedding(folder: Path) -> Any:
    with torch.inference_mode():
        return oracle(folder).get_input_embeddings()


@pytest.fixture(scope="module")
def accepting(folder: Path) -> LocalEngine:
    """As after --enable-prompt-embeds."""
    return LocalEngine(folder, max_model_len=64, enable_prompt_embeds=True)


async def test_embedded_prompts_answer_as_their_tokens_do(accepting: LocalEngine, embedding: Any) -> None:
    prompts = [accepting.tokenizer.encode(text, add_special_tokens=True) for text in ("hello world", "one two three")]
    files = [embedded(embedding(torch.tensor(prompt)).detach()) for prompt in prompts]
    options = {"max_tokens": 5, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    from_tokens = await ask(accepting, {"prompt": [*prompts, [5, 6]]} | options)
    from_embeds = await ask(accepting, {"prompt_embeds": files, "prompt": [[5, 6]]} | options)
    ids = [[choice["token_ids"] for choice in reply["choices"]] for reply in (from_tokens, from_embeds)]
    assert ids[0] == ids[1]
    assert from_tokens["usage"]["prompt_tokens"] == from_embeds["usage"]["prompt_tokens"]
    assert [choice["prompt_token_ids"] for choice in from_embeds["choices"]] == [None, None, [5, 6]]
    alone = await ask(accepting, {"prompt_embeds": files[0]} | options | {"n": 2})
    assert [choice["token_ids"] for choice in alone["choices"]] == [ids[0][0]] * 2


async def test_embeddings_need_the_servers_consent(engine: LocalEngine, embedding: Any) -> None:
    file = embedded(embedding(torch.tensor([5])).detach())
    assert await refusal(engine, {"prompt_embeds": file}) == ("unsupported_value", "prompt_embeds")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"echo": True}, "echo"),
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
        ({"suffix": "x"}, "suffix"),
        ({"use_beam_search": True}, "use_beam_search"),
    ],
)
async def test_embeddings_refuse_what_needs_tokens(
    fields: dict[str, Any], param: str, accepting: LocalEngine, embedding: Any
) -> None:
    body = {"prompt_embeds": embedded(embedding(torch.tensor([5])).detach())} | fields
    assert await refusal(accepting, body) == ("invalid_parameter_combination", param)


@pytest.mark.parametrize("file", ["!!", "UEsDBA==", embedded(torch.zeros(2, 3)), embedded(torch.zeros(0, 64))])
async def test_files_that_are_no_embeddings_are_refused(file: str, accepting: LocalEngine) -> None:
    _, param = await refusal(accepting, {"prompt_embeds": [file]})
    assert param == "prompt_embeds"
