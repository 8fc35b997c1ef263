"""Reasoning and tool calls in chat answers, streamed and whole, over an engine that says what it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_engine import TOKENIZER, FakeEngine, app_over, client_of

from specserve.engine.api import GenerationRequest
from specserve.handlers.chat.answer_formats import FormatChoice
from specserve.handlers.chat.preparation import ChatOptions
from specserve.handlers.chat.prompts import Prompts, TemplateOptions

CHAT = "/v1/chat/completions"
TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
ROME, OSLO = '{"city": "Rome 🙂"}', '{"city": "Oslo"}'
CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {ROME}}}\n</tool_call>'
CALLS = f'{CALL}\n<tool_call>\n{{"name": "get_weather", "arguments": {OSLO}}}\n</tool_call>'
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "tools": [TOOL]}
THINK: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": True}}
Answer = str | Callable[[GenerationRequest], str]


def engine_of(answer: Answer) -> FakeEngine:
    return FakeEngine(answer if callable(answer) else lambda request: answer, max_model_len=800)


async def whole(answer: Answer, body: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    async with client_of(app_over(engine_of(answer), **options)) as client:
        reply = await client.post(CHAT, json=body)
    assert reply.status_code == 200, reply.text
    choices: list[dict[str, Any]] = reply.json()["choices"]
    return choices


async def streamed(answer: Answer, body: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """The choices of the chunks."""
    async with client_of(app_over(engine_of(answer), **options)) as client:
        reply = await client.post(CHAT, json=body | {"stream": True})
    found = [json.loads(line[6:]) for line in reply.text.split("\n\n") if line.startswith("data: {")]
    return [choice for chunk in found for choice in chunk["choices"]]


def added_up(pieces: list[dict[str, Any]], index: int = 0) -> dict[str, Any]:
    """A choice as clients put it together; checks where ids and names are."""
    mine = [piece for piece in pieces if piece["index"] == index]
    assert [piece["finish_reason"] for piece in mine[:-1]] == [None] * (len(mine) - 1)
    message: dict[str, Any] = {"content": "", "reasoning": "", "reasoning_content": "", "tool_calls": []}
    for piece in mine:
        delta = piece["delta"]
        for name in ("content", "reasoning", "reasoning_content"):
            message[name] += delta.get(name) or ""
        for call in delta.get("tool_calls", []):
            if call["index"] == len(message["tool_calls"]):
                assert call["type"] == "function"
                message["tool_calls"].append({"id": call["id"], "name": call["function"]["name"], "arguments": ""})
            else:
                assert call["index"] == len(message["tool_calls"]) - 1
                assert not {"id", "type"} & call.keys()
                assert "name" not in call["function"]
            message["tool_calls"][-1]["arguments"] += call["function"].get("arguments") or ""
    return message | {"finish_reason": mine[-1]["finish_reason"]}


def as_added_up(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice["message"]
    return {
        "content": message["content"] or "",
        "reasoning": message.get("reasoning") or "",
        "reasoning_content": message.get("reasoning_content") or "",
        "tool_calls": [{"id": call["id"], **call["function"]} for call in message.get("tool_calls") or []],
        "finish_reason": choice["finish_reason"],
    }


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    calls = [call | {"id": None} for call in message["tool_calls"]]
    return message | {"tool_calls": calls}


def call_of(arguments: str) -> dict[str, Any]:
    return {"id": None, "name": "get_weather", "arguments": arguments}


def expected(
    content: str = "", reasoning: str = "", calls: list[dict[str, Any]] | None = None, reason: str = "stop"
) -> dict[str, Any]:
    return {
        "content": content,
        "reasoning": reasoning,
        "reasoning_content": reasoning,
        "tool_calls": calls or [],
        "finish_reason": reason,
    }


BOTH_CALLS = [call_of(ROME), call_of(OSLO)]
CUT = [call_of('{"city": "Rome')]


@pytest.mark.parametrize(
    ("answer", "body", "outcome"),
    [
        (CALL, {}, expected(calls=[call_of(ROME)], reason="tool_calls")),
        (CALLS, {}, expected(calls=BOTH_CALLS, reason="tool_calls")),
        (f"Wait.\n{CALLS}\nDone.", {}, expected("Wait.\n\n\nDone.", calls=BOTH_CALLS, reason="tool_calls")),
        (CALLS, {"parallel_tool_calls": False}, expected(calls=[call_of(ROME)], reason="tool_calls")),
        (CALL, {"tool_choice": "none"}, expected(CALL)),
        (CALL, {"tools": None}, expected(CALL)),
        ("No <tool_call> today.", {}, expected("No <tool_call> today.")),
        ("Just <tool_", {}, expected("Just <tool_")),
        (f"I look.\n</think>\n\n{CALL}", THINK, expected("", "I look.\n", [call_of(ROME)], "tool_calls")),
        ("Hm.\n</think>\n\nYes.", THINK, expected("\n\nYes.", "Hm.\n")),
        ("Hm.\n</think>\n\nYes.", THINK | {"tools": None}, expected("\n\nYes.", "Hm.\n")),
        ("Hm.</think>Yes.", THINK | {"include_reasoning": False}, expected("Yes.")),
        ("<think>Hm.</think>Yes.", {}, expected("Yes.", "Hm.")),
        ("All of it is thought", THINK, expected("", "All of it is thought")),
        ("What is <think> for?", {}, expected("What is <think> for?")),
    ],
)
async def test_a_stream_adds_up_to_the_whole_answer(answer: str, body: dict[str, Any], outcome: dict[str, Any]) -> None:
    [choice] = await whole(answer, ASK | body)
    assert without_ids(as_added_up(choice)) == outcome
    assert without_ids(added_up(await streamed(answer, ASK | body))) == outcome
    if not outcome["content"] and (outcome["tool_calls"] or outcome["reasoning"]):
        assert choice["message"]["content"] is None


async def test_an_answer_cut_within_arguments_ends_by_length() -> None:
    num_tokens = len(TOKENIZER.encode(CALL[: CALL.index("Rome") + 4], add_special_tokens=False))
    body = ASK | {"max_tokens": num_tokens}
    [choice] = await whole(CALL, body)
    assert without_ids(as_added_up(choice)) == expected(calls=CUT, reason="length")
    assert without_ids(added_up(await streamed(CALL, body))) == expected(calls=CUT, reason="length")


async def test_arguments_are_streamed_in_pieces_and_role_comes_first() -> None:
    pieces = await streamed(CALL, ASK)
    assert pieces[0]["delta"] == {"role": "assistant", "content": ""}
    arguments = [call["function"].get("arguments") for piece in pieces for call in piece["delta"].get("tool_calls", [])]
    assert len([text for text in arguments if text]) > 3
    assert not any(piece["delta"].get("content") for piece in pieces)


async def test_every_call_of_every_choice_has_an_id_of_its_own() -> None:
    choices = await whole(CALLS, ASK | {"n": 3})
    ids = [call["id"] for choice in choices for call in choice["message"]["tool_calls"]]
    assert len(set(ids)) == 6
    pieces = await streamed(CALLS, ASK | {"n": 3})
    for index in range(3):
        assert without_ids(added_up(pieces, index)) == expected(calls=BOTH_CALLS, reason="tool_calls")


async def test_logprobs_and_tokens_are_those_of_the_whole_text() -> None:
    body = ASK | {"logprobs": True, "return_token_ids": True}
    [choice] = await whole(CALL, body)
    token_ids = TOKENIZER.encode(CALL, add_special_tokens=False)
    assert choice["token_ids"][:-1] == token_ids
    assert len(choice["logprobs"]["content"]) == len(choice["token_ids"])
    pieces = await streamed(CALL, body)
    assert [token for piece in pieces for token in piece.get("token_ids") or []] == choice["token_ids"]


@pytest.mark.parametrize("shown", [True, False])
async def test_tokens_of_thoughts_are_counted_and_hidden_with_them(shown: bool) -> None:
    answer = "I wonder. Hm.\n</think>\n\nYes, it is."
    thought = TOKENIZER.encode(answer[: answer.index("</think>") + 8], add_special_tokens=False)
    body = ASK | THINK | {"include_reasoning": shown, "logprobs": True, "return_token_ids": True}
    async with client_of(app_over(engine_of(answer))) as client:
        reply = (await client.post(CHAT, json=body)).json()
        options = {"stream": True, "stream_options": {"include_usage": True}}
        lines = (await client.post(CHAT, json=body | options)).text.split("\n\n")
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    [choice] = reply["choices"]
    total = len(TOKENIZER.encode(answer, add_special_tokens=False)) + 1
    assert reply["usage"]["completion_tokens"] == total
    assert reply["usage"]["completion_tokens_details"] == {"reasoning_tokens": len(thought)}
    assert {
        key: chunks[-1]["usage"][key] for key in reply["usage"] if "prompt" not in key and key != "total_tokens"
    } == {key: value for key, value in reply["usage"].items() if "prompt" not in key and key != "total_tokens"}
    assert len(choice["token_ids"]) == (total if shown else total - len(thought))
    assert len(choice["logprobs"]["content"]) == len(choice["token_ids"])
    assert ("wonder" in json.dumps(choice)) is shown


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_the_server_may_use_one_name_of_reasoning(field: str) -> None:
    options = {"chat_options": ChatOptions(reasoning_field=field)}  # type: ignore[arg-type]
    other = {"reasoning": "reasoning_content", "reasoning_content": "reasoning"}[field]
    [choice] = await whole("Hm.</think>Yes.", ASK | THINK, **options)
    assert choice["message"][field] == "Hm."
    assert other not in choice["message"]
    deltas = [piece["delta"] for piece in await streamed("Hm.</think>Yes.", ASK | THINK, **options)]
    assert "".join(delta.get(field, "") for delta in deltas) == "Hm."
    assert not any(other in delta for delta in deltas)


async def test_a_template_of_mistral_gets_short_ids_and_the_format_of_mistral() -> None:
    prompts = Prompts(TemplateOptions(chat_template="[INST]{{ messages[-1].content }}[/INST]{# [TOOL_CALLS] #}"))
    answer = '[TOOL_CALLS]get_weather[ARGS]{"city": "Rome 🙂"}'
    [choice] = await whole(answer, ASK, prompts=prompts)
    assert without_ids(as_added_up(choice)) == expected(calls=[call_of(ROME)], reason="tool_calls")
    [call] = choice["message"]["tool_calls"]
    assert len(call["id"]) == 9
    assert call["id"].isalnum()


async def test_reading_can_be_switched_off() -> None:
    options = {"chat_options": ChatOptions(formats=FormatChoice(tool_parser="none", reasoning_parser="none"))}
    [choice] = await whole(f"<think>a</think>{CALL}", ASK, **options)
    assert as_added_up(choice) == expected(f"<think>a</think>{CALL}")


async def test_special_tokens_stay_in_the_text_while_calls_are_looked_for() -> None:
    """Marks may be special tokens. Without tools they are skipped as ever: the demo's marks of reasoning are not."""
    engine = engine_of("Hello.")
    async with client_of(app_over(engine)) as client:
        for body in (ASK, ASK | {"tools": None}):
            assert (await client.post(CHAT, json=body)).status_code == 200
    assert [request.params.skip_special_tokens for request in engine.requests] == [False, True]


async def test_functions_get_their_call_in_the_older_form() -> None:
    body = {"messages": ASK["messages"], "functions": [TOOL["function"]]}
    [choice] = await whole(CALL, body)
    assert choice["message"]["function_call"] == {"name": "get_weather", "arguments": ROME}
    assert choice["finish_reason"] == "function_call"


async def test_a_continued_thought_goes_on_as_one() -> None:
    messages = [*ASK["messages"], {"role": "assistant", "content": "<think>\nWell"}]
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{# </think> <tool_call> #}"
    body = ASK | {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    [choice] = await whole(", yes.</think>Yes.", body, prompts=Prompts(TemplateOptions(chat_template=template)))
    assert as_added_up(choice) == expected("Yes.", ", yes.")
