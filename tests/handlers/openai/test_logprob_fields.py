"""Log probabilities of the prompt, of named tokens, and words that may not be written: fields, limits and replies."""

from __future__ import annotations

from typing import Any

import pytest
from fake_engine import TOKENIZER, FakeEngine, app_over, client_of

from specserve.handlers.limits import Limits

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
PROMPT: dict[str, Any] = {"prompt": [70, 71, 72, 73, 74], "max_tokens": 4}
BODIES = {CHAT: HELLO, COMPLETIONS: PROMPT}
BOTH = pytest.mark.parametrize("path", [CHAT, COMPLETIONS])


async def ask(engine: FakeEngine, path: str, fields: dict[str, Any], **limits: Any) -> Any:
    async with client_of(app_over(engine, limits=Limits(**limits))) as client:
        return await client.post(path, json=BODIES[path] | fields)


async def refusal(path: str, fields: dict[str, Any], **limits: Any) -> tuple[str, str]:
    engine = FakeEngine()
    reply = await ask(engine, path, fields, **limits)
    assert reply.status_code == 400, reply.text
    assert engine.requests == []
    error = reply.json()["error"]
    return error["param"], error["message"]


def expected(prompt: list[int], num_top: int) -> list[dict[str, Any] | None]:
    """What the fake engine reports, as the wire has it."""
    return [
        None
        if place == 0
        else {
            str(token_id + step): {
                "logprob": -0.5 - step,
                "rank": step or place,
                "decoded_token": TOKENIZER.token_text(token_id + step),
            }
            for step in range(num_top + 1)
        }
        for place, token_id in enumerate(prompt)
    ]


@pytest.mark.parametrize("num_top", [0, 2])
async def test_a_chat_reply_has_the_prompts_log_probabilities_once(num_top: int) -> None:
    engine = FakeEngine()
    reply = (await ask(engine, CHAT, {"prompt_logprobs": num_top, "n": 2})).json()
    prompt = list(engine.requests[0].prompt_token_ids)
    assert reply["prompt_logprobs"] == expected(prompt, num_top)
    assert all("prompt_logprobs" not in choice for choice in reply["choices"])


async def test_each_completion_has_its_own_prompts_log_probabilities() -> None:
    fields = {"prompt": [[70, 71, 72, 73], [80, 81, 82, 83, 84]], "prompt_logprobs": 1, "n": 2}
    reply = (await ask(FakeEngine(), COMPLETIONS, fields)).json()
    found = [choice["prompt_logprobs"] for choice in reply["choices"]]
    assert found == [expected(fields["prompt"][at // 2], 1) for at in range(4)]  # type: ignore[index]


@BOTH
async def test_nobody_gets_what_was_not_asked_for(path: str) -> None:
    reply = (await ask(FakeEngine(), path, {})).json()
    assert reply.get("prompt_logprobs") is None
    assert all(choice.get("prompt_logprobs") is None for choice in reply["choices"])


@BOTH
async def test_minus_one_asks_for_the_most_the_server_allows(path: str) -> None:
    for limit, want in [(3, 3), (0, 0), (-1, TOKENIZER.vocab_size), (10**9, TOKENIZER.vocab_size)]:
        engine = FakeEngine()
        counts = {"logprobs": True, "top_logprobs": -1} if path == CHAT else {"logprobs": -1}
        assert (await ask(engine, path, counts, max_logprobs=limit)).status_code == 200
        assert engine.requests[0].params.logprobs == want
        if want < 10:
            assert (await ask(engine, path, {"prompt_logprobs": -1}, max_logprobs=limit)).status_code == 200
            assert engine.requests[1].params.prompt_logprobs == want


@BOTH
async def test_more_than_the_server_allows_is_refused(path: str) -> None:
    counts = {"logprobs": True, "top_logprobs": 6} if path == CHAT else {"logprobs": 6}
    for fields in ({"prompt_logprobs": 6}, counts):
        name = list(fields)[-1]
        param, message = await refusal(path, fields, max_logprobs=5)
        assert param == name
        assert f"{name} is 6, which is greater than max allowed: 5" in message


@BOTH
@pytest.mark.parametrize("count", [1, -1])
async def test_a_stream_carries_no_candidates_of_the_prompt(path: str, count: int) -> None:
    param, message = await refusal(path, {"prompt_logprobs": count, "stream": True})
    assert param == "prompt_logprobs"
    assert "stream" in message


@BOTH
async def test_the_first_chunk_carries_the_prompts_own_log_probabilities(path: str) -> None:
    reply = await ask(FakeEngine(), path, {"prompt_logprobs": 0, "stream": True})
    assert reply.text.count('"prompt_logprobs":[null,{') == 1
    assert '"prompt_logprobs":[null,{' in reply.text.split("\n\n")[0]


@BOTH
async def test_named_tokens_reach_the_engine(path: str) -> None:
    engine = FakeEngine()
    counts = {"logprobs": True} if path == CHAT else {"logprobs": 2}
    assert (await ask(engine, path, counts | {"logprob_token_ids": [300, 5]})).status_code == 200
    assert engine.requests[0].params.logprob_token_ids == (300, 5)


@BOTH
async def test_named_tokens_need_log_probabilities_of_as_many(path: str) -> None:
    counts = {"logprobs": True, "top_logprobs": 3} if path == CHAT else {"logprobs": 3}
    for fields in ({}, counts):
        param, _ = await refusal(path, fields | {"logprob_token_ids": [300, 5]})
        assert param == "logprob_token_ids"
    on = {"logprobs": True} if path == CHAT else {"logprobs": 0}
    param, message = await refusal(path, on | {"logprob_token_ids": [TOKENIZER.vocab_size]})
    assert param == "logprob_token_ids"
    assert str(TOKENIZER.vocab_size) in message


@BOTH
async def test_bad_words_are_tokenized_with_and_without_a_space(path: str) -> None:
    engine = FakeEngine()
    words = ["Paris", " France", " "]
    assert (await ask(engine, path, {"bad_words": words})).status_code == 200
    forms = ["Paris", " Paris", "France", " France", " "]
    wanted = [tuple(TOKENIZER.encode(form, add_special_tokens=False)) for form in forms]
    assert engine.requests[0].params.bad_words_token_ids == tuple(wanted)


@BOTH
@pytest.mark.parametrize(
    "words", [["xqz " * 100] * 11, ["a" * 20000], ["\u4f60\u597d" * 200] * 3], ids=["tokens", "characters", "bytes"]
)
async def test_too_many_bad_words_are_refused(path: str, words: list[str]) -> None:
    distinct = [f"{word}{at}" for at, word in enumerate(words)]
    param, message = await refusal(path, {"bad_words": distinct})
    assert param == "bad_words"
    assert "the limit is" in message
