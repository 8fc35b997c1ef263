"""Where a sampling parameter comes from (request, override, folder, model, neutral value), and how long answers get."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine, app_over, client_of

from specserve.engine.api import ModelInfo
from specserve.engine.generation_config import HONOURED_FIELDS
from specserve.handlers.command_line import read_settings
from specserve.handlers.flags import UsageError
from specserve.handlers.generation_defaults import GenerationDefaults
from specserve.handlers.limits import Limits

ROUTES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/completions": {"prompt": "hello"},
}


def folder_with(path: Path, generation: dict[str, Any]) -> str:
    path.mkdir(exist_ok=True)
    (path / "generation_config.json").write_text(json.dumps(generation))
    return str(path)


def model_in(path: str) -> ModelInfo:
    return dataclasses.replace(FakeEngine().model, path=path)


def defaults_of(path: str, *argv: str) -> GenerationDefaults:
    return read_settings(argv, {}).generation_defaults(model_in(path))


def test_override_beats_folder_beats_nothing_of_the_model(tmp_path: Path) -> None:
    model = folder_with(tmp_path / "model", {"temperature": 0.1, "top_p": 0.1, "top_k": 1, "max_new_tokens": 100})
    folder = folder_with(tmp_path / "folder", {"temperature": 0.2, "top_p": 0.2})
    override = ("--override-generation-config", '{"temperature": 0.3}')
    assert defaults_of(model) == GenerationDefaults(temperature=0.1, top_p=0.1, top_k=1, max_new_tokens=100)
    assert defaults_of(model, "--generation-config", "vllm") == GenerationDefaults()
    assert defaults_of(model, "--generation-config", folder) == GenerationDefaults(temperature=0.2, top_p=0.2)
    assert defaults_of(model, "--generation-config", folder, *override) == GenerationDefaults(
        temperature=0.3, top_p=0.2
    )
    assert defaults_of(model, "--generation-config", "vllm", *override) == GenerationDefaults(temperature=0.3)


def test_only_a_length_that_the_operator_chose_is_a_ceiling(tmp_path: Path) -> None:
    model = folder_with(tmp_path / "model", {"max_new_tokens": 100})
    folder = folder_with(tmp_path / "folder", {"max_new_tokens": 50})
    assert defaults_of(model).max_tokens_ceiling is None
    assert defaults_of(model, "--generation-config", folder).max_tokens_ceiling == 50
    assert defaults_of(model, "--override-generation-config", '{"max_new_tokens": 9}').max_tokens_ceiling == 9
    assert defaults_of(model, "--override-generation-config", '{"top_k": 9}').max_tokens_ceiling is None


def test_end_tokens_come_from_the_override_or_the_folder_or_stay_the_models(tmp_path: Path) -> None:
    def chosen(*argv: str) -> tuple[int, ...] | None:
        return read_settings(("m", *argv), {}).engine_config().model.eos_token_ids

    folder = folder_with(tmp_path, {"eos_token_id": [7, 8]})
    assert chosen() is None
    assert chosen("--generation-config", folder) == (7, 8)
    assert chosen("--generation-config", folder, "--override-generation-config", '{"eos_token_id": 9}') == (9,)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ('{"temprature": 1}', "unknown key temprature; did you mean temperature? known are"),
        ('{"num_beams": 4}', f"unknown key num_beams; known are {', '.join(HONOURED_FIELDS)}"),
        ('{"temperature": 3}', "its temperature must be in [0, 2]"),
        ('{"max_new_tokens": 0}', "its max_new_tokens must be at least 1"),
        ('{"eos_token_id": "</s>"}', "its eos_token_id must be a token id"),
        ("[1]", "must be a JSON object"),
        ("{", "must be a JSON object"),
    ],
)
def test_an_override_that_cannot_be_followed_stops_the_start(value: str, told: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read_settings(["--override-generation-config", value], {})
    assert told in refusal.value.cause


def test_an_override_may_be_a_mapping_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("override-generation-config:\n  temperature: 0.4\n  eos_token_id: [3]\n")
    settings = read_settings(["--config", str(tmp_path / "c.yaml")], {})
    assert settings.override_generation_config == {"temperature": 0.4, "eos_token_id": [3]}


def test_a_folder_without_a_readable_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a folder with a generation_config"):
        read_settings(["--generation-config", str(tmp_path)], {})
    (tmp_path / "generation_config.json").write_text("[]")
    with pytest.raises(UsageError, match="must be a JSON object"):
        read_settings(["--generation-config", str(tmp_path)], {})


@pytest.mark.parametrize("path", ROUTES)
async def test_the_request_beats_the_default_beats_the_neutral_value(path: str) -> None:
    defaults = GenerationDefaults(
        temperature=0.2, top_p=0.3, top_k=4, min_p=0.05, repetition_penalty=1.1, presence_penalty=0.5
    )
    sent = {"temperature": 0.9, "top_p": 0.8, "top_k": 7, "min_p": 0.01, "repetition_penalty": 1.2}
    sent |= {"presence_penalty": -0.5, "frequency_penalty": 0.25}
    found = []
    for body, given in ((sent, defaults), ({}, defaults), (dict.fromkeys(sent), defaults), ({}, GenerationDefaults())):
        engine = FakeEngine()
        async with client_of(app_over(engine, defaults=given)) as client:
            assert (await client.post(path, json=ROUTES[path] | body)).status_code == 200
        params = engine.requests[0].params
        found.append([getattr(params, name) for name in sent])
    assert found == [
        [0.9, 0.8, 7, 0.01, 1.2, -0.5, 0.25],
        [0.2, 0.3, 4, 0.05, 1.1, 0.5, 0.0],
        [0.2, 0.3, 4, 0.05, 1.1, 0.5, 0.0],
        [1.0, 1.0, 0, 0.0, 1.0, 0.0, 0.0],
    ]


async def effective(path: str, body: dict[str, Any], **options: Any) -> tuple[int, str | None, Any]:
    async with client_of(app_over(FakeEngine(), **options)) as client:
        reply = await client.post(path, json=ROUTES[path] | body)
        prompt = (await client.post("/tokenize", json=ROUTES[path])).json()["count"]
    error = reply.json()["error"] if reply.status_code != 200 else prompt
    return reply.status_code, reply.headers.get("x-effective-max-tokens"), error


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ROUTES)
async def test_an_answer_that_does_not_fit_is_clamped_and_the_header_says_to_what(path: str, stream: bool) -> None:
    async with client_of(app_over(FakeEngine())) as client:
        prompt = (await client.post("/tokenize", json=ROUTES[path])).json()["count"]
        for asked, expected in ((65535, 256 - prompt), (7, 7)):
            reply = await client.post(path, json=ROUTES[path] | {"max_tokens": asked, "stream": stream})
            assert (reply.status_code, reply.headers["x-effective-max-tokens"]) == (200, str(expected))


async def test_of_several_prompts_the_one_with_the_least_room_is_told() -> None:
    body = {"prompt": ["hello " * 100, "hello"], "max_tokens": 65535}
    async with client_of(app_over(FakeEngine())) as client:
        longest = (await client.post("/tokenize", json={"prompt": body["prompt"][0]})).json()["count"]
        reply = await client.post("/v1/completions", json=body)
    assert reply.headers["x-effective-max-tokens"] == str(256 - longest)


@pytest.mark.parametrize("path", ROUTES)
async def test_an_answer_that_does_not_fit_can_be_refused_with_the_numbers(path: str) -> None:
    strict = Limits(max_tokens_policy="reject")
    _, _, prompt = await effective(path, {"max_tokens": 1}, limits=strict)
    status, header, error = await effective(path, {"max_tokens": 300}, limits=strict)
    assert (status, header, error["code"], error["param"]) == (400, None, "context_length_exceeded", "max_tokens")
    for number in (300, prompt, 256, 256 - prompt):
        assert str(number) in error["message"]
    assert (await effective(path, {"max_tokens": 256 - prompt}, limits=strict))[0] == 200
    assert (await effective(path, {}, limits=strict))[0] == 200


async def test_a_refusal_names_the_field_that_was_sent() -> None:
    status, _, error = await effective(
        "/v1/chat/completions", {"max_completion_tokens": 999}, limits=Limits(max_tokens_policy="reject")
    )
    assert (status, error["param"]) == (400, "max_completion_tokens")


@pytest.mark.parametrize("path", ROUTES)
async def test_the_operators_ceiling_holds_under_both_policies(path: str) -> None:
    ceiling = GenerationDefaults(max_new_tokens=5, max_tokens_ceiling=5)
    assert (await effective(path, {"max_tokens": 50}, defaults=ceiling))[:2] == (200, "5")
    assert (await effective(path, {}, defaults=ceiling))[:2] == (200, "5")
    status, _, error = await effective(
        path, {"max_tokens": 50}, defaults=ceiling, limits=Limits(max_tokens_policy="reject")
    )
    assert (status, error["code"], error["param"]) == (400, "unsupported_value", "max_tokens")
    assert "5 tokens at most" in error["message"]


@pytest.mark.parametrize("path", ROUTES)
async def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(path: str) -> None:
    body = {"prompt": "hello " * 400, "messages": [{"role": "user", "content": "hello " * 400}]}
    sent = {name: body[name] for name in ROUTES[path]}
    async with client_of(app_over(FakeEngine())) as client:
        count = (await client.post("/tokenize", json=sent)).json()["count"]
        error = (await client.post(path, json=sent)).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert str(count) in error["message"]
    assert "256" in error["message"]
