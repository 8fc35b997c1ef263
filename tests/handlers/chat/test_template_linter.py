"""What a template hides from its model is found, by templates that do just that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from fake_engine import TOKENIZER

from specserve.generated.errors import InvalidPrompt
from specserve.handlers.chat.conversation import Conversation
from specserve.handlers.chat.prompts import Prompts, TemplateOptions
from specserve.handlers.chat.template import ChatTemplate
from specserve.handlers.chat.template_linter import lint
from specserve.handlers.demo import checkpoint_path

CHATML = (Path(checkpoint_path()) / "chat_template.jinja").read_text()
PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role in ['system', 'developer'] %}"
    "{{ raise_exception('there is no system role') }}{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}"
)
LAST_ONLY = "{{ messages[-1].content if messages[-1].content is string else '' }}"


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (CHATML, None),
        (PLAIN, "drops tools and tool results"),
        (NO_SYSTEM, "drops tools and tool results; refuses system messages and developer messages"),
        (LAST_ONLY, "drops system messages, developer messages, earlier turns, tools and tool results"),
    ],
    ids=["demo", "plain", "no system role", "last message only"],
)
def test_one_line_says_what_the_model_will_not_see(source: str, line: str | None) -> None:
    assert lint(ChatTemplate(source, {}).render).line == line


def test_minor_findings_are_listed_but_not_in_the_line() -> None:
    found = lint(ChatTemplate(CHATML, {}).render)
    assert "documents" in found.drops
    assert found.line is None


def test_a_model_without_a_template_is_remarked_upon() -> None:
    class Silent:
        chat_templates: Mapping[str, str] = MappingProxyType({})

    prompts = Prompts()
    assert "no chat template" in (prompts.remark(Silent()) or "")  # type: ignore[arg-type]
    with pytest.raises(InvalidPrompt, match="--chat-template"):
        prompts.findings(Silent())  # type: ignore[arg-type]


def test_a_broken_template_of_the_model_is_remarked_upon_with_its_line() -> None:
    remark = Prompts(TemplateOptions(chat_template="a\n{% if %}")).remark(TOKENIZER)
    assert "line 2" in (remark or "")


def test_a_template_of_its_own_for_tools_is_used_when_there_are_tools() -> None:
    class Two:
        chat_templates: Mapping[str, str] = MappingProxyType({"default": PLAIN, "tool_use": f"{{{{ tools }}}}{PLAIN}"})
        special_tokens: Mapping[str, str] = MappingProxyType({})

    prompts, hello = Prompts(), [{"role": "user", "content": "hello"}]
    tokenizer: Any = Two()
    assert prompts.text(tokenizer, Conversation(messages=hello)) == "<user>hello<a>"
    assert "get_time" in prompts.text(tokenizer, Conversation(messages=hello, tools=[{"name": "get_time"}]))
    assert prompts.findings(tokenizer).line == "drops tool results"
