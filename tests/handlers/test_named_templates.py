"""Our own chat templates: what they render as a call is read back as that call, by the format found by it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from specserve.handlers.chat.answer_pieces import fold_pieces
from specserve.handlers.chat.conversation import Conversation
from specserve.handlers.chat.format_detection import detected_tool_format
from specserve.handlers.chat.template import ChatTemplate
from specserve.handlers.chat.template_linter import lint
from specserve.handlers.chat.tool_formats.registry import TOOL_FORMATS
from specserve.handlers.flag_table import template as template_of_flag
from specserve.handlers.named_templates import named_template, template_names

FORMATS = {
    "hermes": "hermes",
    "mistral": "mistral",
    "llama3_json": "llama3_json",
    "llama3.2_pythonic": "pythonic",
    "granite": "granite",
    "internlm2_tool": "internlm",
}
ENDS = ("<|im_end|>", "</s>", "<|eot_id|>", "<|end_of_text|>")
ARGUMENTS = {"city": 'São "Paulo"', "days": 3, "wet": True, "more": {"list": [1.5, None]}}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "get_weather", "description": "Sky.", "parameters": {"type": "object"}}}
]
QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather?"}]
CALL = {"id": "a1b2c3d4e", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}}
RESULT = {"role": "tool", "tool_call_id": "a1b2c3d4e", "content": "Rain and 4 degrees."}


def made(name: str) -> ChatTemplate:
    source = named_template(name)
    assert source is not None
    return ChatTemplate(source, {}, "auto")


def render(template: ChatTemplate, messages: list[dict[str, Any]], *, goes_on: bool = True) -> str:
    return template.render(Conversation(messages=messages, tools=TOOLS, add_generation_prompt=goes_on))


def test_every_template_is_tested() -> None:
    assert set(FORMATS) == set(template_names())


@pytest.mark.parametrize(("name", "form"), FORMATS.items())
def test_the_form_of_calls_is_found_from_the_template(name: str, form: str) -> None:
    assert detected_tool_format(named_template(name) or "") == form


@pytest.mark.parametrize(("name", "form"), FORMATS.items())
def test_a_call_is_read_back_as_it_was(name: str, form: str) -> None:
    template = made(name)
    before = render(template, QUESTION)
    whole = render(template, [*QUESTION, {"role": "assistant", "content": "", "tool_calls": [CALL]}], goes_on=False)
    assert whole.startswith(before)
    written = whole.removeprefix(before).rstrip()
    for end in ENDS:
        written = written.removesuffix(end)
    parser = TOOL_FORMATS[form].parser(TOOLS)
    folded = fold_pieces([*parser.feed(written), *parser.finish(is_cut=False)])
    assert [(call.name, json.loads(call.arguments)) for call in folded.calls] == [("get_weather", ARGUMENTS)]
    assert folded.content.strip() == ""


@pytest.mark.parametrize("name", FORMATS)
def test_the_model_sees_all_of_a_conversation(name: str) -> None:
    template = made(name)
    text = render(template, [*QUESTION, {"role": "assistant", "content": "", "tool_calls": [CALL]}, RESULT])
    for part in ("Be brief.", "Weather?", "get_weather", "Rain and 4 degrees."):
        assert part in text
    findings = lint(template.render)
    assert not findings.refuses
    assert not {"tools", "tool results"} & set(findings.drops)


def test_the_flag_takes_a_name() -> None:
    assert template_of_flag("granite") == named_template("granite")
    with pytest.raises(ValueError, match="nor one of granite, hermes"):
        template_of_flag("granit")
