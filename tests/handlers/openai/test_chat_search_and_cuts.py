"""Beam search, truncation and continued messages in chat, over a real engine with a tokenizer that drops spaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from asking import ask, refusal
from fake_engine import FakeEngine, app_over, client_of
from local_engine import LocalEngine, write_model

from specserve.engine.api import GenerationRequest
from specserve.engine.params import SamplingParams
from specserve.handlers.chat.beam_search import BeamSearch, BeamSettings
from specserve.handlers.truncation import HEADER

CHAT = "/v1/chat/completions"
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello world"}], "temperature": 0}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    folder: Path = write_model(tmp_path_factory.mktemp("chat"), "byte_fallback")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return LocalEngine(folder, max_model_len=96)


async def test_beams_answer_best_first(engine: LocalEngine) -> None:
    body = HELLO | {"use_beam_search": True, "n": 3, "max_tokens": 5, "length_penalty": 0.0, "early_stopping": True}
    reply = await ask(engine, body | {"logprobs": True, "top_logprobs": 1, "return_token_ids": True}, path=CHAT)
    request = GenerationRequest(
        request_id="again", prompt_token_ids=reply["prompt_token_ids"], params=SamplingParams(max_tokens=5)
    )
    beams = await BeamSearch(engine, request, BeamSettings(width=3, length_penalty=0.0, early_stopping=True)).run()
    assert [choice["token_ids"] for choice in reply["choices"]] == [list(beam.token_ids) for beam in beams]
    for choice, beam in zip(reply["choices"], beams, strict=True):
        entries = choice["logprobs"]["content"]
        assert sum(entry["logprob"] for entry in entries) == pytest.approx(beam.sum_logprob)
        assert all(len(entry["top_logprobs"]) == 1 for entry in entries)
        assert choice["finish_reason"] == ("stop" if beam.has_ended else "length")
    assert reply["usage"]["completion_tokens"] == sum(len(beam.token_ids) for beam in beams)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": True}, "stream"),
        ({"stop": ["x"]}, "stop"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
    ],
)
async def test_beams_refuse_what_they_cannot_follow(fields: dict[str, Any], param: str) -> None:
    body = HELLO | {"use_beam_search": True} | fields
    assert await refusal(FakeEngine(), body, path=CHAT) == ("invalid_parameter_combination", param)


@pytest.mark.parametrize("side", ["left", "right", None])
async def test_conversations_are_cut_where_asked(engine: LocalEngine, side: str | None) -> None:
    whole = (await ask(engine, HELLO | {"return_token_ids": True, "max_tokens": 1}, path=CHAT))["prompt_token_ids"]
    body = HELLO | {"truncate_prompt_tokens": 7, "truncation_side": side, "max_tokens": 1}
    reply = await ask(engine, body, path=CHAT)
    assert engine.requests[-1].prompt_token_ids == (whole[:7] if side == "right" else whole[-7:])
    assert reply["headers"][HEADER] == f"{len(whole)}/7"
    assert reply["usage"]["prompt_tokens"] == 7


async def test_a_conversation_beyond_the_context_is_cut_only_where_asked(engine: LocalEngine) -> None:
    long = {"messages": [{"role": "user", "content": "one two " * 100}], "max_tokens": 4}
    assert await refusal(engine, long, path=CHAT) == ("context_length_exceeded", "messages")
    reply = await ask(engine, long | {"truncate_prompt_tokens": -1}, path=CHAT)
    assert reply["usage"]["prompt_tokens"] == 95
    assert reply["usage"]["completion_tokens"] == 1
    async with client_of(app_over(engine)) as client:
        streamed = await client.post(CHAT, json=long | {"truncate_prompt_tokens": -1, "stream": True})
    assert streamed.headers[HEADER] == reply["headers"][HEADER]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("continues", [False, True])
async def test_only_an_answer_of_its_own_loses_the_space_at_its_beginning(
    engine: LocalEngine, continues: bool, stream: bool
) -> None:
    """`▁a` begins an answer as "a", and goes on in a message as " a"; the bytes say the same."""
    (token_id,) = [one for one in range(engine.model.vocab_size) if engine.tokenizer.vocabulary_entry(one) == "▁b"]
    body: dict[str, Any] = {
        "messages": [*HELLO["messages"], {"role": "assistant", "content": "The"}],
        "allowed_token_ids": [token_id],
        "max_tokens": 2,
        "logprobs": True,
        "top_logprobs": 1,
        "stream": stream,
    }
    if continues:
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    async with client_of(app_over(engine)) as client:
        reply = await client.post(CHAT, json=body)
    if stream:
        chunks = [json.loads(frame.removeprefix("data: ")) for frame in reply.text.split("\n\n")[:-2]]
        pieces = [chunk["choices"][0] for chunk in chunks]
        text = "".join(piece["delta"].get("content") or "" for piece in pieces)
        entries = [entry for piece in pieces for entry in (piece.get("logprobs") or {"content": []})["content"]]
    else:
        choice = reply.json()["choices"][0]
        text, entries = choice["message"]["content"], choice["logprobs"]["content"]
    assert text == (" b b" if continues else "b b")
    assert bytes(byte for entry in entries for byte in entry["bytes"]).decode() == text
