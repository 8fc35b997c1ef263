"""What the model reads of a conversation: turns and blocks in the words of chat templates."""

from __future__ import annotations

from typing import Any

import pytest
from fake_engine import TOKENIZER
from messaging import HELLO, PATH, WEATHER, engine_of, post, refusal

from specserve.generated import schemas
from specserve.generated.errors import ApiError
from specserve.handlers.anthropic.turns import to_conversation
from specserve.handlers.chat.conversation import Conversation, Message


def read(messages: list[dict[str, Any]], system: Any = None) -> Conversation:
    body = schemas.MessagesRequest.model_validate({"max_tokens": 1, "messages": messages, "system": system})
    return to_conversation(body, [], {})


def messages_of(messages: list[dict[str, Any]], system: Any = None) -> list[Message]:
    return read(messages, system).messages


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "cache_control": {"type": "ephemeral"}}


HI = {"role": "user", "content": "hi"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": [1, {"b": None}]}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "a tree"}
CALL = {"id": "toolu_1", "type": "function", "function": {"name": "look", "arguments": {"at": [1, {"b": None}]}}}


def test_text_is_text() -> None:
    assert messages_of([HI]) == [{"role": "user", "content": "hi"}]
    assert messages_of([user(text("hi"))]) == [{"role": "user", "content": "hi"}]
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert messages_of([user(text("a"), text("b"))]) == [{"role": "user", "content": parts}]


@pytest.mark.parametrize("system", ["Be brief.", [text("Be brief.")], [text("Be"), text("brief.")]])
def test_the_system_prompt_comes_first(system: Any) -> None:
    first, second = messages_of([HI], system)
    assert (first["role"], first["content"].split()) == ("system", ["Be", "brief."])
    assert second["role"] == "user"


@pytest.mark.parametrize("system", [None, "", [], [text("")]])
def test_an_empty_system_prompt_is_none(system: Any) -> None:
    assert [message["role"] for message in messages_of([HI], system)] == ["user"]


def test_what_agents_write_for_accountants_is_not_read() -> None:
    billing = text("x-anthropic-billing-header: cc_version=2.1; cch=8f1a2;")
    (first, _) = messages_of([HI], [billing, text("Be brief.")])
    assert first["content"] == "Be brief."


def test_a_system_message_may_come_later() -> None:
    roles = [message["role"] for message in messages_of([HI, {"role": "system", "content": "Now in French."}, HI])]
    assert roles == ["user", "system", "user"]


def test_turns_of_one_role_are_one() -> None:
    turns = [HI, user(text("there")), assistant(text("a")), assistant(USE), user(RESULT), HI]
    assert [message["role"] for message in messages_of(turns)] == ["user", "assistant", "tool", "user"]


def test_calls_and_results_are_those_of_functions() -> None:
    turns = messages_of([HI, assistant(text("Let me look."), USE), user(RESULT, text("And?"))])
    assert turns[1] == {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]}
    assert turns[2] == {"role": "tool", "tool_call_id": "toolu_1", "name": "look", "content": "a tree"}
    assert turns[3] == {"role": "user", "content": "And?"}


def test_results_come_before_other_text() -> None:
    turns = messages_of([HI, assistant(USE), user(text("And?"), RESULT)])
    assert [message["role"] for message in turns] == ["user", "assistant", "tool", "user"]
    assert turns[1]["content"] is None


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("a tree", "a tree"),
        ([text("a"), text("tree")], "a\ntree"),
        ([], ""),
        (None, ""),
        ([{"type": "tool_reference", "tool_name": "climb"}], "climb"),
        ([{"type": "search_result", "source": "s", "title": "T", "content": [text("x")]}], "T (s)\nx"),
        ([{"type": "document", "source": {"type": "text", "data": "d"}, "title": "T"}], "T\nd"),
    ],
)
def test_results_have_many_forms(content: Any, shown: str) -> None:
    turns = [HI, assistant(USE), user(RESULT | {"content": content})]
    assert messages_of(turns)[2]["content"] == shown
    failed = [HI, assistant(USE), user(RESULT | {"content": content, "is_error": True})]
    assert messages_of(failed)[2]["content"] == f"Error: {shown}"


def test_a_result_may_be_without_content() -> None:
    bare = {"type": "tool_result", "tool_use_id": "toolu_9"}
    assert messages_of([HI, assistant(USE), user(bare)])[2] == {
        "role": "tool",
        "tool_call_id": "toolu_9",
        "content": "",
    }


def test_thoughts_are_handed_to_the_template_under_both_names() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "abc"}
    redacted = {"type": "redacted_thinking", "data": "xyz"}
    answer = messages_of([HI, assistant(thought, redacted, text("Yes.")), HI])[1]
    assert answer == {"role": "assistant", "content": "Yes.", "reasoning": "Hm.", "reasoning_content": "Hm."}


def test_documents_that_are_text_are_read() -> None:
    plain = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Once."}}
    blocks = {"type": "document", "source": {"type": "content", "content": [text("upon")]}, "context": "A tale"}
    (message,) = messages_of([user(plain, blocks, text("Go on."))])
    assert [part["text"] for part in message["content"]] == ["Once.", "A tale\nupon", "Go on."]


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}


@pytest.mark.parametrize(
    ("turns", "place"),
    [
        ([user(text("see"), IMAGE)], "messages.0.content.1"),
        ([HI, assistant(USE), user(RESULT | {"content": [IMAGE]})], "messages.2.content.0.content.0"),
        ([user(PDF)], "messages.0.content.0.source"),
        (
            [user({"type": "document", "source": {"type": "content", "content": [IMAGE]}})],
            "messages.0.content.0.source",
        ),
        (
            [HI, assistant({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}), HI],
            "messages.1.c",
        ),
        ([HI, HI, assistant(RESULT), HI], "messages.2.content.0"),
        ([user(USE)], "messages.0.content.0"),
        ([user({"type": "thinking", "thinking": "hm"})], "messages.0.content.0"),
    ],
)
def test_what_cannot_be_read_is_named(turns: list[dict[str, Any]], place: str) -> None:
    with pytest.raises(ApiError) as caught:
        read(turns)
    assert (caught.value.status, caught.value.code) == (400, "unsupported_value")
    assert str(caught.value.param).startswith(place)
    assert place in caught.value.message


def test_an_assistant_at_the_end_goes_on() -> None:
    conversation = read([HI, assistant(text("one, two,"))])
    assert conversation.continue_final_message
    assert not conversation.add_generation_prompt


@pytest.mark.parametrize("nothing", [[], [text("")], ""])
def test_an_empty_assistant_at_the_end_is_no_turn(nothing: Any) -> None:
    conversation = read([HI, {"role": "assistant", "content": nothing}])
    assert [message["role"] for message in conversation.messages] == ["user"]
    assert conversation.add_generation_prompt


@pytest.mark.parametrize("block", [USE, {"type": "thinking", "thinking": "hm"}])
async def test_an_end_that_leaves_nothing_to_say_is_refused(block: dict[str, Any]) -> None:
    told = await refusal(HELLO | {"messages": [HI, assistant(block)]})
    assert told == (400, "invalid_request_error", "invalid_prompt", "messages.1")


async def test_nothing_at_all_is_refused() -> None:
    told = await refusal(HELLO | {"messages": [{"role": "assistant", "content": ""}]})
    assert told == (400, "invalid_request_error", "invalid_prompt", "messages")


async def test_the_prompt_is_that_of_the_same_chat() -> None:
    """Every kind of turn that both protocols have makes the same prompt."""
    engine = engine_of("ok")
    thought = {"type": "thinking", "thinking": "I look it up.", "signature": ""}
    use = {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Rome"}}
    body = {
        "max_tokens": 5,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": "Weather?"},
            assistant(thought, use),
            user({"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}),
        ],
        "tools": [WEATHER],
    }
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
    function = {name: WEATHER[name] for name in ("name", "description")} | {"parameters": WEATHER["input_schema"]}
    chat = {
        "max_tokens": 5,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": None, "reasoning": "I look it up.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        ],
        "tools": [{"type": "function", "function": function}],
    }
    assert (await post(engine, body)).status_code == 200
    assert (await post(engine, chat, path="/v1/chat/completions")).status_code == 200
    of_message, of_chat = [TOKENIZER.decode(request.prompt_token_ids) for request in engine.requests]
    assert of_message == of_chat
    counted = await post(
        engine, {name: body[name] for name in body if name != "max_tokens"}, path=f"{PATH}/count_tokens"
    )
    assert counted.json()["input_tokens"] == len(engine.requests[0].prompt_token_ids)
