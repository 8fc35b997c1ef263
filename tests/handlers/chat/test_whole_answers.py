"""Whole answers are the folded stream, also where no parser was needed to read them."""

from __future__ import annotations

from typing import Any

import pytest
from fake_engine import FakeEngine, app_over, client_of
from hypothesis import given, settings
from hypothesis import strategies as st

from specserve.handlers.chat.answer_formats import FormatChoice
from specserve.handlers.chat.answer_pieces import FoldedAnswer, fold_pieces
from specserve.handlers.chat.reasoning_formats.registry import REASONING_FORMATS
from specserve.handlers.chat.tool_formats.registry import TOOL_FORMATS

TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": "f"}}]
PROMPTS = ("assistant\n", "assistant\n<think>\n", "assistant\n<think>\n\n</think>\n\n")
NAMES = [(tools, "none") for tools in TOOL_FORMATS] + [("hermes", thoughts) for thoughts in REASONING_FORMATS]


def fragments_of(example: str) -> list[str]:
    """A format's marks, whole and torn, and text that is none."""
    words = example.replace("\\n", "\n").split()
    return [*words, *(word[1:] for word in words), *(word[:3] for word in words), *example, "a", "So: 🙂", " ", "\n"]


@pytest.mark.parametrize(("tools", "thoughts"), NAMES)
@settings(max_examples=40, deadline=None)
@given(data=st.data(), prompt=st.sampled_from(PROMPTS), offers=st.booleans())
def test_an_answer_without_a_beginning_of_anything_is_content(
    tools: str, thoughts: str, data: st.DataObject, prompt: str, offers: bool
) -> None:
    formats = FormatChoice(tool_parser=tools, reasoning_parser=thoughts).for_template("")
    parser = formats.parser(TOOLS if offers else [], prompt)
    marks = formats.beginnings(formats.opening(prompt), with_calls=offers)
    example = TOOL_FORMATS[tools].example + (REASONING_FORMATS[thoughts].example if thoughts != "none" else "")
    text = "".join(data.draw(st.lists(st.sampled_from(fragments_of(example)), max_size=8)))
    if parser is None or marks is None or marks.search(text) is not None:
        return
    made = parser()
    assert fold_pieces([*made.feed(text), *made.finish(is_cut=False)]) == FoldedAnswer(content=text)


def test_most_formats_tell_what_their_calls_begin_with() -> None:
    known = {name for name, form in TOOL_FORMATS.items() if form.beginnings is not None}
    assert {"hermes", "mistral", "llama3_json"} <= known
    opening = FormatChoice(tool_parser="hermes", reasoning_parser="qwen3").for_template("")
    found = opening.beginnings("none", with_calls=True)
    assert found is not None
    assert found.search("a < b") is not None
    assert found.search('a {"b": [c]}') is None
    assert opening.beginnings("open", with_calls=True) is None, "all of it may be a thought"


CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
ANSWERS = ("plain text ", " \n", "a < b, ", CALL, "<think>hm</think>", "🙂", "<tool_call>{no}", "\n\n")


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.sampled_from(ANSWERS), max_size=5), thinks=st.booleans())
async def test_the_whole_answer_is_what_its_stream_adds_up_to(texts: list[str], thinks: bool) -> None:
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": "hello"}],
        "tools": TOOLS,
        "return_token_ids": True,
        "chat_template_kwargs": {"enable_thinking": thinks},
    }
    engine = FakeEngine(lambda request: "".join(texts), max_model_len=2000)
    async with client_of(app_over(engine)) as client:
        one = (await client.post("/v1/chat/completions", json=body)).json()
        same = (await client.post("/v1/chat/completions", json=body | {"n": 2})).json()
    message, others = one["choices"][0]["message"], same["choices"][0]["message"]
    for call in [*message.get("tool_calls", []), *others.get("tool_calls", [])]:
        call["id"] = ""
    assert message == others, "two answers are folded from events"
    assert one["choices"][0]["finish_reason"] == same["choices"][0]["finish_reason"]
    assert one["choices"][0]["token_ids"] == same["choices"][0]["token_ids"]
    assert one["usage"].get("completion_tokens_details", {}) == {
        name: count // 2 for name, count in same["usage"].get("completion_tokens_details", {}).items()
    }
