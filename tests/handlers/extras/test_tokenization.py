"""/tokenize, /detokenize and /tokenizer_info, compared with transformers' tokenizer of the same folder."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from fake_engine import TOKENIZER, FakeEngine, app_over, client_of
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment
from transformers import AutoTokenizer

from specserve.handlers.chat.prompts import Prompts, TemplateOptions
from specserve.handlers.demo import checkpoint_path

ORACLE = AutoTokenizer.from_pretrained(checkpoint_path())
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "Hello, I am"},
]
TEXTS = [
    "",
    " ",
    "The capital of France is Paris.",
    "Sí, 你好 🙂👨‍👩‍👧\n\tdone",
    "<|im_start|>user\nhi<|im_end|>",
    "\x00\ufffd",
]


async def post(path: str, body: dict[str, Any], **options: Any) -> tuple[int, Any]:
    async with client_of(app_over(FakeEngine(), **options)) as client:
        reply = await client.post(path, json=body)
    return reply.status_code, reply.json()


async def tokens(body: dict[str, Any]) -> dict[str, Any]:
    status, found = await post("/tokenize", body)
    assert status == 200, found
    return dict(found)


async def refusal(path: str, body: dict[str, Any]) -> tuple[str, str]:
    status, found = await post(path, body)
    assert status == 400, found
    return found["error"]["code"], found["error"]["param"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("add_special_tokens", [True, False, None])
async def test_text_gives_the_ids_of_transformers(text: str, add_special_tokens: bool | None) -> None:
    found = await tokens({"prompt": text, "add_special_tokens": add_special_tokens, "return_token_strs": True})
    expected = ORACLE.encode(text, add_special_tokens=add_special_tokens is not False)
    assert found == {
        "count": len(expected),
        "max_model_len": 256,
        "tokens": expected,
        "token_strs": ORACLE.convert_ids_to_tokens(expected),
    }


async def test_token_names_are_null_unless_asked_for() -> None:
    assert (await tokens({"prompt": "hello"}))["token_strs"] is None


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"messages": TALK[:2]}, {"add_generation_prompt": True}),
        ({"messages": TALK[:2], "add_generation_prompt": False}, {}),
        ({"messages": TALK, "add_generation_prompt": False, "continue_final_message": True},
         {"continue_final_message": True}),
        ({"messages": TALK[:2], "tools": [WEATHER]}, {"add_generation_prompt": True, "tools": [WEATHER]}),
        ({"messages": TALK[:2], "chat_template_kwargs": {"enable_thinking": True}},
         {"add_generation_prompt": True, "enable_thinking": True}),
    ],
)  # fmt: skip
async def test_messages_give_the_ids_of_transformers_template(body: dict[str, Any], options: dict[str, Any]) -> None:
    text = ORACLE.apply_chat_template(body["messages"], tokenize=False, **options)
    assert (await tokens(body))["tokens"] == ORACLE.encode(text, add_special_tokens=False)


async def test_messages_are_counted_as_a_chat_request_counts_them() -> None:
    async with client_of(app_over(FakeEngine())) as client:
        body = {"messages": TALK[:2], "tools": [WEATHER]}
        counted = (await client.post("/tokenize", json=body)).json()["count"]
        usage = (await client.post("/v1/chat/completions", json=body | {"max_tokens": 1})).json()["usage"]
    assert counted == usage["prompt_tokens"]


async def test_more_tokens_than_the_context_holds_are_no_fault() -> None:
    assert (await tokens({"prompt": "hello " * 500}))["count"] > 256


@settings(max_examples=50)
@given(text=st.text(max_size=60))
def test_any_text_comes_back_from_its_tokens(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text, add_special_tokens=False)) == text


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_text_comes_back_over_the_wire(text: str, prefix: str) -> None:
    _, found = await post(f"{prefix}/tokenize", {"prompt": text, "add_special_tokens": False})
    assert await post(f"{prefix}/detokenize", {"tokens": found["tokens"]}) == (200, {"prompt": text})


async def test_special_tokens_are_part_of_the_text() -> None:
    ids = ORACLE.all_special_ids
    assert await post("/detokenize", {"tokens": ids}) == (200, {"prompt": ORACLE.decode(ids)})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ("invalid_parameter_combination", "prompt")),
        ({"prompt": "a", "messages": TALK}, ("invalid_parameter_combination", "prompt")),
        ({"prompt": "a", "continue_final_message": True}, ("invalid_parameter_combination", "continue_final_message")),
        ({"prompt": "a", "tools": [WEATHER]}, ("invalid_parameter_combination", "tools")),
        ({"messages": TALK, "mm_processor_kwargs": {"size": 1}}, ("unsupported_parameter", "mm_processor_kwargs")),
        ({"messages": TALK, "chat_template": "{{ 1 }}"}, ("unsupported_parameter", "chat_template")),
        ({"messages": TALK, "chat_template_kwargs": {"tokenize": True}},
         ("unsupported_value", "chat_template_kwargs.tokenize")),
        ({"messages": TALK, "continue_final_message": True, "add_generation_prompt": True},
         ("invalid_parameter_combination", "continue_final_message")),
    ],
)  # fmt: skip
async def test_what_cannot_be_tokenized_is_refused_by_name(body: dict[str, Any], expected: tuple[str, str]) -> None:
    assert await refusal("/tokenize", body) == expected


async def test_ids_outside_the_vocabulary_are_refused_with_their_place() -> None:
    body = {"tokens": [5, TOKENIZER.vocab_size, 6]}
    assert await refusal("/detokenize", body) == ("token_out_of_vocabulary", "tokens.1")
    assert (await post("/detokenize", {"tokens": [2**63 - 1]}))[0] == 400
    assert (await post("/detokenize", {"tokens": [-1]}))[0] == 400


async def test_an_unknown_model_is_a_404() -> None:
    for path, body in (("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [5]})):
        status, found = await post(path, body | {"model": "fale"})
        assert (status, found["error"]["code"]) == (404, "model_not_found")


async def test_tokenizer_info_is_shown_only_when_the_server_was_told_to() -> None:
    async with client_of(app_over(FakeEngine())) as client:
        for path in ("/tokenizer_info", "/v1/tokenizer_info"):
            reply = await client.get(path)
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "endpoint_disabled")
            assert "--enable-tokenizer-info-endpoint" in reply.json()["error"]["message"]


async def test_a_client_can_tokenize_and_render_with_what_tokenizer_info_says() -> None:
    """What lm-eval's remote tokenizer does: special tokens as text, their ids by /tokenize, the template by Jinja."""
    async with client_of(app_over(FakeEngine(), shows_tokenizer_info=True)) as client:
        info = (await client.get("/tokenizer_info")).json()
        body = {"prompt": info["eos_token"], "add_special_tokens": False}
        end = (await client.post("/tokenize", json=body)).json()["tokens"]
    assert end == [ORACLE.eos_token_id]
    template = Environment(trim_blocks=True, lstrip_blocks=True).from_string(info["chat_template"])
    expected = ORACLE.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    assert template.render(messages=TALK, add_generation_prompt=True) == expected
    assert info["tokenizer_class"]


async def test_tokenizer_info_shows_the_template_the_server_was_given() -> None:
    app = app_over(
        FakeEngine(), shows_tokenizer_info=True, prompts=Prompts(TemplateOptions(chat_template="{{ messages }}"))
    )
    async with client_of(app) as client:
        assert (await client.get("/v1/tokenizer_info")).json()["chat_template"] == "{{ messages }}"


class NotingTokenizer:
    """Notes the threads that work with it."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(TOKENIZER, name)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        self.threads.append(threading.current_thread())
        return TOKENIZER.encode(text, add_special_tokens=add_special_tokens)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        self.threads.append(threading.current_thread())
        return TOKENIZER.decode(token_ids)


async def test_the_event_loop_does_not_wait_for_the_tokenizer() -> None:
    tokenizer = NotingTokenizer()
    async with client_of(app_over(FakeEngine(tokenizer=tokenizer))) as client:
        await client.post("/tokenize", json={"prompt": "hello"})
        await client.post("/tokenize", json={"messages": TALK})
        await client.post("/detokenize", json={"tokens": [5]})
    assert len(tokenizer.threads) == 3
    assert threading.main_thread() not in tokenizer.threads
