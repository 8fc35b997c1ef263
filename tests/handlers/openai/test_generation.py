"""Completions and chat completions, streamed and whole, over an engine that says what it is told."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from fake_engine import TOKENIZER, FakeEngine, app_over, client_of

from specserve.engine.api import GenerationRequest
from specserve.handlers.generation_defaults import GenerationDefaults
from specserve.handlers.limits import Limits

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
PROMPT: dict[str, Any] = {"prompt": "hello", "max_tokens": 100}
EMOJI = "Sí, 你好 🙂👨‍👩‍👧 done."
PARIS = "The capital of France is Paris."
END = TOKENIZER.eos_token_ids[0]


def answers(request: GenerationRequest) -> str:
    """Another one for every sample, so that mixed-up choices show."""
    return [PARIS, EMOJI, "Third answer, a longer one than the others are.", "4"][request.index % 4]


async def ask(engine: FakeEngine, path: str, body: dict[str, Any], **options: Any) -> dict[str, Any]:
    async with client_of(app_over(engine, **options)) as client:
        reply = await client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def refused(engine: FakeEngine, path: str, body: dict[str, Any], **options: Any) -> dict[str, Any]:
    async with client_of(app_over(engine, **options)) as client:
        reply = await client.post(path, json=body)
    assert reply.status_code == 400, reply.text
    found: dict[str, Any] = reply.json()["error"]
    return found


async def ask_streamed(engine: FakeEngine, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks; checks the frame of the stream."""
    async with client_of(app_over(engine)) as client:
        reply = await client.post(path, json=body | {"stream": True})
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    frames = reply.text.split("\n\n")
    assert frames.pop() == ""
    assert frames.pop() == "data: [DONE]"
    assert all(frame.startswith("data: {") for frame in frames)
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def add_up(chunks: list[dict[str, Any]], index: int) -> dict[str, Any]:
    """One choice of a stream, as a client puts it together; checks where its finish reason is."""
    pieces = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    assert [piece["finish_reason"] for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1]["finish_reason"] is not None
    if "delta" in pieces[0]:
        assert pieces[0]["delta"] == {"role": "assistant", "content": ""}
        assert all("role" not in piece["delta"] for piece in pieces[1:])
    text = "".join(piece["delta"].get("content") or "" if "delta" in piece else piece["text"] for piece in pieces)
    logprobs: dict[str, list[Any]] = {}
    for piece in pieces:
        for name, entries in (piece.get("logprobs") or {}).items():
            logprobs.setdefault(name, []).extend(entries or [])
    return {
        "text": text,
        "logprobs": logprobs or None,
        "finish_reason": pieces[-1]["finish_reason"],
        "stop_reason": pieces[-1]["stop_reason"],
        "token_ids": [token for piece in pieces for token in piece.get("token_ids") or []],
    }


def as_added_up(choice: dict[str, Any]) -> dict[str, Any]:
    logprobs = choice["logprobs"]
    return {
        "text": choice["message"]["content"] if "message" in choice else choice["text"],
        "logprobs": logprobs and {name: entries or [] for name, entries in logprobs.items()},
        "finish_reason": choice["finish_reason"],
        "stop_reason": choice["stop_reason"],
        "token_ids": choice.get("token_ids") or [],
    }


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("with_logprobs", [False, True], ids=["", "logprobs"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_tokens": 3},
        {"stop": ["France is", "🙂"]},
        {"stop": "ce i", "include_stop_str_in_output": True},
        {"stop": ["never"], "stop_token_ids": [END]},
        {"return_token_ids": True, "max_tokens": 7},
        {"skip_special_tokens": False},
        {"return_tokens_as_token_ids": True},
    ],
    ids=lambda fields: "+".join(fields),
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_stream_adds_up_to_the_whole_answer(
    path: str, fields: dict[str, Any], with_logprobs: bool, n: int
) -> None:
    body = (HELLO if path == CHAT else PROMPT) | fields | {"n": n}
    if with_logprobs:
        body |= {"logprobs": True, "top_logprobs": 3} if path == CHAT else {"logprobs": 3}
    whole = await ask(FakeEngine(answers), path, body)
    usage = {"stream_options": {"include_usage": True}}
    chunks = await ask_streamed(FakeEngine(answers), path, body | usage)
    assert [choice["index"] for choice in whole["choices"]] == list(range(n))
    for index, choice in enumerate(whole["choices"]):
        assert add_up(chunks, index) == as_added_up(choice)
    *pieces, last = chunks
    assert last["choices"] == []
    assert last["usage"] == whole["usage"]
    assert all(len(chunk["choices"]) == 1 and chunk["usage"] is None for chunk in pieces)
    same = {(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in chunks}
    assert len(same) == 1


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("fields", "text", "finish_reason", "stop_reason"),
    [
        ({}, PARIS, "stop", None),
        ({"max_tokens": 3}, "The capital of", "length", None),
        ({"stop": "al of Fr"}, "The capit", "stop", "al of Fr"),
        ({"stop": ["zzz", "."]}, "The capital of France is Paris", "stop", "."),
        ({"stop": "is", "include_stop_str_in_output": True}, "The capital of France is", "stop", "is"),
        ({"stop_token_ids": TOKENIZER.encode(" of", add_special_tokens=False)}, "The capital", "stop", "id"),
        ({"stop": "The", "min_tokens": 2}, PARIS, "stop", None),
    ],
    ids=["end token", "max_tokens", "stop over tokens", "second stop", "stop kept", "stop token", "stop too early"],
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_every_cause_has_its_finish_reason(
    path: str, fields: dict[str, Any], text: str, finish_reason: str, stop_reason: Any, stream: bool, n: int
) -> None:
    if stop_reason == "id":
        stop_reason = fields["stop_token_ids"][0]
    body = (HELLO if path == CHAT else PROMPT) | fields | {"n": n}
    if stream:
        chunks = await ask_streamed(FakeEngine(), path, body)
        found = [add_up(chunks, index) for index in range(n)]
    else:
        found = [as_added_up(choice) for choice in (await ask(FakeEngine(), path, body))["choices"]]
    for choice in found:
        assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == (text, finish_reason, stop_reason)


async def test_chunks_say_nothing_of_usage_unless_asked() -> None:
    chunks = await ask_streamed(FakeEngine(), CHAT, HELLO)
    assert not any("usage" in chunk for chunk in chunks)


async def test_running_usage_grows_with_every_chunk() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = await ask_streamed(FakeEngine(), COMPLETIONS, PROMPT | {"stream_options": options})
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert all(chunk["usage"]["prompt_tokens"] == chunks[-1]["usage"]["prompt_tokens"] for chunk in chunks)


async def test_usage_counts_prompts_once_and_tokens_of_all_choices() -> None:
    """Siblings find what the first choice computed, which does not make it cheaper."""
    engine = FakeEngine(num_cached=lambda request: 1 if request.index % 3 == 0 else 16)
    texts = ["hello there everybody", "one two three"]
    usage = (await ask(engine, COMPLETIONS, {"prompt": texts, "n": 3, "max_tokens": 4}))["usage"]
    assert usage["prompt_tokens"] == sum(len(TOKENIZER.encode(text, add_special_tokens=True)) for text in texts)
    assert usage["completion_tokens"] == 2 * 3 * 4
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 2


async def test_choices_of_several_prompts_are_numbered_prompt_by_prompt() -> None:
    engine = FakeEngine(lambda request: f"{TOKENIZER.decode(request.prompt_token_ids)}-{request.index % 2}")
    reply = await ask(engine, COMPLETIONS, {"prompt": ["one", "two", "three"], "n": 2})
    found = [(choice["index"], choice["text"]) for choice in reply["choices"]]
    assert found == list(enumerate(["one-0", "one-1", "two-0", "two-1", "three-0", "three-1"]))


async def test_siblings_share_a_parent_and_differ_by_index() -> None:
    engine = FakeEngine()
    await ask(engine, CHAT, HELLO | {"n": 3, "seed": 5, "cache_salt": "mine", "priority": 2})
    assert [request.index for request in engine.requests] == [0, 1, 2]
    assert len({request.parent_id for request in engine.requests}) == 1
    assert len({request.request_id for request in engine.requests}) == 3
    assert {(request.cache_salt, request.priority, request.params.seed) for request in engine.requests} == {
        ("mine", 2, 5)
    }


async def test_bytes_of_chat_logprobs_spell_the_text() -> None:
    body = HELLO | {"logprobs": True, "top_logprobs": 2}
    choice = (await ask(FakeEngine(lambda request: EMOJI), CHAT, body))["choices"][0]
    entries = choice["logprobs"]["content"][:-1]  # the last one is the end token, which has no text
    assert bytes(byte for entry in entries for byte in entry["bytes"]).decode() == EMOJI
    for entry in entries:
        assert len(entry["top_logprobs"]) == 2
        assert entry["top_logprobs"][0]["logprob"] == entry["logprob"] == -0.5
        assert entry["top_logprobs"][1]["logprob"] == -9999.0
    assert choice["logprobs"]["refusal"] is None


async def test_chat_logprobs_without_top_have_empty_lists() -> None:
    choice = (await ask(FakeEngine(), CHAT, HELLO | {"logprobs": True}))["choices"][0]
    assert all(entry["top_logprobs"] == [] for entry in choice["logprobs"]["content"])


@pytest.mark.parametrize(("asked", "num_top"), [(0, 1), (2, 2), (-1, 4)])
async def test_completion_logprobs_name_the_sampled_token_besides_the_top(asked: int, num_top: int) -> None:
    body = PROMPT | {"logprobs": asked}
    choice = (await ask(FakeEngine(), COMPLETIONS, body, limits=Limits(max_logprobs=4)))["choices"][0]
    logprobs = choice["logprobs"]
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == len(logprobs["top_logprobs"])
    for token, best in zip(logprobs["tokens"], logprobs["top_logprobs"], strict=True):
        assert best[token] == -0.5
        assert len(best) == num_top


async def test_text_offsets_point_to_the_tokens_in_the_text() -> None:
    choice = (await ask(FakeEngine(lambda request: EMOJI), COMPLETIONS, PROMPT | {"logprobs": 0}))["choices"][0]
    logprobs = choice["logprobs"]
    starts = [*logprobs["text_offset"], len(EMOJI)]
    pieces = [EMOJI[start:end] for start, end in itertools.pairwise(starts)]
    assert "".join(pieces) == EMOJI
    whole_tokens = [
        (piece, token) for piece, token in zip(pieces, logprobs["tokens"], strict=True) if "\ufffd" not in token
    ]
    assert all(piece.endswith(token) for piece, token in whole_tokens[:-1])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("prompt", "echoed"),
    [(" Hello  there", " Hello  there"), (TOKENIZER.encode("one two", add_special_tokens=False), "one two")],
    ids=["text", "token ids"],
)
async def test_echo_begins_with_the_prompt(prompt: Any, echoed: str, stream: bool) -> None:
    body = {"prompt": prompt, "echo": True, "max_tokens": 3, "n": 2}
    if stream:
        chunks = await ask_streamed(FakeEngine(), COMPLETIONS, body)
        texts = [add_up(chunks, index)["text"] for index in range(2)]
    else:
        texts = [choice["text"] for choice in (await ask(FakeEngine(), COMPLETIONS, body))["choices"]]
    assert texts == [f"{echoed}The capital of"] * 2


async def test_echo_without_tokens_asks_the_engine_for_nothing() -> None:
    engine = FakeEngine()
    body = {"prompt": ["a", "b"], "echo": True, "max_tokens": 0}
    reply = await ask(engine, COMPLETIONS, body)
    assert [choice["text"] for choice in reply["choices"]] == ["a", "b"]
    assert reply["usage"]["completion_tokens"] == 0
    assert engine.requests == []


async def test_max_tokens_is_a_cap_within_the_context() -> None:
    engine = FakeEngine(max_model_len=64)
    await ask(engine, CHAT, HELLO)
    await ask(engine, CHAT, HELLO | {"max_tokens": 5, "max_completion_tokens": 7})
    await ask(engine, CHAT, HELLO | {"max_tokens": 65_535})
    room = 64 - len(engine.requests[0].prompt_token_ids)
    assert [request.params.max_tokens for request in engine.requests] == [room, 7, room]
    await ask(engine, COMPLETIONS, {"prompt": "hello"})
    await ask(engine, COMPLETIONS, {"prompt": "hello", "max_tokens": None})
    assert [request.params.max_tokens for request in engine.requests[3:]] == [16, 16]


async def test_a_request_comes_before_the_servers_defaults_and_those_before_neutral_values() -> None:
    engine = FakeEngine()
    defaults = GenerationDefaults(temperature=0.6, top_k=20, max_new_tokens=9)
    await ask(engine, CHAT, HELLO | {"top_k": -1, "min_p": None}, defaults=defaults)
    params = engine.requests[0].params
    assert (params.temperature, params.top_k, params.min_p, params.top_p, params.max_tokens) == (0.6, 0, 0.0, 1.0, 9)
    await ask(engine, CHAT, HELLO | {"temperature": 0, "max_tokens": 4}, defaults=defaults)
    assert (engine.requests[1].params.temperature, engine.requests[1].params.max_tokens) == (0, 4)


@pytest.mark.parametrize(
    ("path", "fields", "code", "param"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "x " * 600}]}, "context_length_exceeded", "messages"),
        (COMPLETIONS, {"prompt": "x " * 600}, "context_length_exceeded", "prompt"),
        (COMPLETIONS, {"prompt": [5] * 256}, "context_length_exceeded", "prompt"),
        (COMPLETIONS, {"prompt": [10**9]}, "token_out_of_vocabulary", "prompt"),
        (COMPLETIONS, {"prompt": ""}, "invalid_prompt", "prompt"),
        (COMPLETIONS, {"prompt": None}, "invalid_prompt", "prompt"),
        (COMPLETIONS, {"max_tokens": 0}, "invalid_parameter_combination", "max_tokens"),
        (COMPLETIONS, {"suffix": "x"}, "unsupported_parameter", "suffix"),
        (COMPLETIONS, {"n": 3, "best_of": 2}, "invalid_parameter_combination", "best_of"),
        (COMPLETIONS, {"use_beam_search": True, "echo": True, "logprobs": 1}, "invalid_parameter_combination", "echo"),
        (COMPLETIONS, {"n": 2000}, "unsupported_value", "n"),
        (CHAT, {"stream_options": {"include_usage": True}}, "invalid_parameter_combination", "stream_options"),
        (CHAT, {"top_logprobs": 2}, "invalid_parameter_combination", "top_logprobs"),
        (CHAT, {"min_tokens": 9, "max_tokens": 3}, "invalid_parameter_combination", "min_tokens"),
        (CHAT, {"stop_token_ids": [10**6]}, "token_out_of_vocabulary", "stop_token_ids"),
        (CHAT, {"allowed_token_ids": [10**6]}, "token_out_of_vocabulary", "allowed_token_ids"),
        (CHAT, {"logit_bias": {"1000000": 1}}, "token_out_of_vocabulary", "logit_bias"),
        (CHAT, {"chat_template": "{{ 1 }}"}, "unsupported_parameter", "chat_template"),
        (CHAT, {"modalities": ["text", "audio"]}, "unsupported_value", "modalities"),
        (CHAT, {"chat_template_kwargs": {"messages": []}}, "unsupported_value", "chat_template_kwargs.messages"),
        (
            CHAT,
            {"continue_final_message": True, "add_generation_prompt": True},
            "invalid_parameter_combination",
            "continue_final_message",
        ),
        (CHAT, {"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "unsupported_value", "tools.0.type"),
        (
            CHAT,
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "what is this?"},
                            {"type": "image_url", "image_url": {"url": "http://a/b.png"}},
                        ],
                    }
                ]
            },
            "unsupported_value",
            "messages.0.content.1.type",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_what_cannot_be_done_is_refused_by_name(
    path: str, fields: dict[str, Any], code: str, param: str, stream: bool
) -> None:
    body = (HELLO if path == CHAT else PROMPT) | fields
    if stream and "stream_options" not in fields:
        body |= {"stream": True}
    engine = FakeEngine()
    error = await refused(engine, path, body)
    assert (error["code"], error["param"]) == (code, param)
    assert engine.requests == []


async def test_a_prompt_that_is_too_long_is_told_in_numbers() -> None:
    error = await refused(FakeEngine(max_model_len=32), COMPLETIONS, {"prompt": [5] * 40})
    assert "40 tokens" in error["message"]
    assert "32" in error["message"]


async def test_fields_without_effect_change_nothing() -> None:
    engine = FakeEngine()
    fields = {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "modalities": ["text"]}
    assert (await ask(engine, CHAT, HELLO | fields))["choices"][0]["message"]["content"] == PARIS


async def test_continue_final_message_needs_no_second_flag() -> None:
    engine = FakeEngine()
    messages = [*HELLO["messages"], {"role": "assistant", "content": "The cap"}]
    await ask(engine, CHAT, {"messages": messages, "continue_final_message": True})
    assert TOKENIZER.decode(engine.requests[0].prompt_token_ids).endswith("assistant\nThe cap")


async def test_earlier_calls_reach_the_template_even_when_their_arguments_are_no_json() -> None:
    engine = FakeEngine()
    calls = [
        {"id": str(at), "type": "function", "function": {"name": "f", "arguments": text}}
        for at, text in enumerate(['{"a": 1}', "not json", "[1]", "[" * 100_000])
    ]
    messages = [
        *HELLO["messages"],
        {"role": "assistant", "tool_calls": calls[:3]},
        {"role": "tool", "tool_call_id": "0", "content": "done"},
    ]
    await ask(engine, CHAT, {"messages": messages})
    prompt = TOKENIZER.decode(engine.requests[0].prompt_token_ids)
    assert '"arguments": {"a": 1}' in prompt
    assert "not json" in prompt
    messages[1] = {"role": "assistant", "tool_calls": calls}
    assert (await refused(engine, CHAT, {"messages": messages}))["code"] == "context_length_exceeded"


async def test_the_body_names_the_request_where_the_header_does_not() -> None:
    async with client_of(app_over(FakeEngine())) as client:
        named = await client.post(CHAT, json=HELLO | {"request_id": "from-body"})
        both = await client.post(COMPLETIONS, json=PROMPT | {"request_id": "from-body"}, headers={"X-Request-Id": "h"})
    assert named.json()["id"] == "chatcmpl-from-body"
    assert both.json()["id"] == "cmpl-h"


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_stream_that_breaks_says_so_once_and_ends(path: str, n: int) -> None:
    async with client_of(app_over(FakeEngine(dies_after=2))) as client:
        reply = await client.post(path, json=(HELLO if path == CHAT else PROMPT) | {"stream": True, "n": n})
    assert reply.status_code == 200
    *chunks, last, done, rest = reply.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["code"], error["type"]) == ("engine_dead", "server_error")
    assert all("error" not in json.loads(chunk.removeprefix("data: ")) for chunk in chunks)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_whole_answer_that_breaks_is_an_error(path: str) -> None:
    async with client_of(app_over(FakeEngine(dies_after=2))) as client:
        reply = await client.post(path, json=HELLO if path == CHAT else PROMPT)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_dead")


async def test_a_death_before_the_first_token_is_a_proper_status() -> None:
    async with client_of(app_over(FakeEngine(dies_after=0))) as client:
        reply = await client.post(CHAT, json=HELLO | {"stream": True})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "engine_dead")


async def test_a_quiet_stream_stays_alive_by_comments() -> None:
    app = app_over(FakeEngine(pause_s=0.05), limits=Limits(keep_alive_s=0.01))
    async with client_of(app) as client:
        reply = await client.post(CHAT, json=HELLO | {"stream": True, "max_tokens": 3})
    frames = reply.text.split("\n\n")
    assert frames[0] == ": keep-alive"  # before the first token, too
    data = [frame for frame in frames if frame.startswith("data: ")]
    assert data[-1] == "data: [DONE]"
    assert set(frames) - set(data) == {": keep-alive", ""}


async def test_an_error_after_a_keep_alive_is_an_event() -> None:
    app = app_over(FakeEngine(pause_s=0.05, dies_after=0), limits=Limits(keep_alive_s=0.01))
    async with client_of(app) as client:
        reply = await client.post(CHAT, json=HELLO | {"stream": True})
    assert reply.status_code == 200
    assert reply.text.count('"engine_dead"') == 1
    assert reply.text.endswith("data: [DONE]\n\n")
