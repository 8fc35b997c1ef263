"""Chat templates: a conversation as the text the model was trained on.

Rendered by Jinja in a sandbox, with the names that templates on the Hugging Face hub expect.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from specserve.generated.errors import InvalidPrompt
from specserve.handlers.chat.conversation import Conversation, Message

RESERVED = frozenset(["messages", "tools", "documents", "add_generation_prompt", "chat_template", "tokenize"])
"""Variables a request's chat_template_kwargs may not replace."""


class GenerationTag(Extension):
    """`{% generation %}` marks the assistant's text for training; for serving it is nothing but its body."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own form

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def raise_exception(message: str) -> None:
    raise TemplateError(message)


def to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
    """Unlike Jinja's own filter this does not escape for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)


def strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


class ChatTemplate:
    """A compiled template. `render` blocks for as long as the template runs: call it in a worker thread."""

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        """Raises jinja2.TemplateError when the source is not a template."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
        )
        environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
        environment.filters["tojson"] = to_json
        self._template = environment.from_string(source)
        self._special_tokens = special_tokens
        self._reads_parts = reads_content_parts(environment.parse(source))

    def render(self, conversation: Conversation) -> str:
        """Raises InvalidPrompt with the template's own words when it refuses the conversation."""
        messages = [self._with_content(message) for message in conversation.messages]
        kwargs = {name: value for name, value in conversation.template_kwargs.items() if name not in RESERVED}
        opens_answer = conversation.add_generation_prompt and not conversation.continue_final_message
        try:
            text = self._template.render(
                **self._special_tokens,
                **kwargs,
                messages=messages,
                tools=conversation.tools or None,
                documents=conversation.documents or None,
                add_generation_prompt=opens_answer,
            )
        except (TemplateError, TypeError, ValueError, KeyError, RecursionError, OverflowError, MemoryError) as error:
            raise InvalidPrompt(f"the chat template refuses these messages: {error}", param="messages") from error
        return without_end(text, messages[-1]) if conversation.continue_final_message else text

    def _with_content(self, message: Message) -> Message:
        content = message.get("content")
        if isinstance(content, list) and not self._reads_parts:
            return message | {"content": "\n".join(part["text"] for part in content)}
        return message


def reads_content_parts(tree: nodes.Template) -> bool:
    """Whether the template loops over a message's content, and so wants it as a list of parts."""
    return any(
        (isinstance(loop.iter, nodes.Getattr) and loop.iter.attr == "content")
        or (isinstance(loop.iter, nodes.Getitem) and getattr(loop.iter.arg, "value", None) == "content")
        for loop in tree.find_all(nodes.For)
    )


def without_end(text: str, last: Message) -> str:
    """Cut what the template wrote after the last message's content. Raises InvalidPrompt when that is not found."""
    content = last.get("content") or ""
    if isinstance(content, list):
        content = content[-1]["text"]
    at = text.rfind(content.strip())
    if at < 0 or not content.strip():
        raise InvalidPrompt(
            "continue_final_message needs a last message whose content the chat template shows unchanged",
            param="continue_final_message",
        )
    return text[: at + len(content.strip())]
