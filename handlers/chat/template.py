"""Chat templates: a conversation as the text the model was trained on.

Rendered by Jinja in a sandbox, with the names that templates on the Hugging Face hub expect.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from specserve.generated.errors import InvalidPrompt
from specserve.handlers.chat.conversation import Conversation, Message
from specserve.handlers.errors import bounded

RESERVED = frozenset(["messages", "tools", "documents", "add_generation_prompt", "chat_template", "tokenize"])
"""Variables a request's chat_template_kwargs may not replace."""
PROBE = "specserve-probe"
"""Content that no template has in it, to see whether and where it is written."""
MISSING = re.compile(r"no (?:attribute|element) '?([\w.\-]{1,64})'?|'([\w.\-]{1,64})' is undefined")
TEMPLATE_FAILURES = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)


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
    """A compiled template. `render` blocks for as long as the template runs: call it in a worker thread.

    Content comes as text or as a list of text parts. What the template was written for is found out by rendering a
    probe in both forms; the other form is turned into it. Parts joined to one text have a line break between them.
    """

    def __init__(self, source: str, special_tokens: dict[str, str]) -> None:
        """Raises jinja2.TemplateError when the source is not a template."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
        )
        environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
        environment.filters["tojson"] = to_json
        self._template = environment.from_string(source)
        self._special_tokens = special_tokens
        self._knows_developer = "developer" in source
        self._reads_parts = self._shows([{"type": "text", "text": PROBE}])
        self._reads_text = self._shows(PROBE) or not self._reads_parts

    def _shows(self, content: Any) -> bool:
        """Whether content of this form is written as what it says, and not as a Python object or not at all."""
        try:
            text = self._template.render(
                **self._special_tokens, messages=[{"role": "user", "content": content}], add_generation_prompt=True
            )
        except TEMPLATE_FAILURES:
            return False
        return PROBE in text and f"'{PROBE}'" not in text

    def render(self, conversation: Conversation) -> str:
        """Raises InvalidPrompt with the template's own words when it refuses the conversation."""
        messages = [self._adapted(message) for message in conversation.messages]
        if conversation.continue_final_message:
            return self._render_open(conversation, messages)
        return self._render(conversation, messages, add_generation_prompt=conversation.add_generation_prompt)

    def _render(self, conversation: Conversation, messages: list[Message], *, add_generation_prompt: bool) -> str:
        try:
            return self._template.render(
                self._special_tokens | conversation.template_kwargs,
                messages=messages,
                tools=conversation.tools or None,
                documents=conversation.documents or None,
                add_generation_prompt=add_generation_prompt,
            )
        except TEMPLATE_FAILURES as error:
            raise InvalidPrompt(
                bounded(f"the chat template refuses these messages: {reason(error)}"), param="messages"
            ) from error

    def _render_open(self, conversation: Conversation, messages: list[Message]) -> str:
        """Up to the end of the last message's content, whatever the template writes after it.

        A mark at the end of the content tells where that is. Templates that strip the content would have stripped
        the white space before the mark too, had it not been there, so that goes with it.
        """
        mark = f"{PROBE}-end"
        text = self._render(
            conversation, [*messages[:-1], with_ending(messages[-1], mark + " ")], add_generation_prompt=False
        )
        at = text.rfind(mark)
        if at < 0:
            raise InvalidPrompt(
                "continue_final_message needs a last message whose content the chat template shows",
                param="continue_final_message",
            )
        strips = not text.startswith(" ", at + len(mark))
        return text[:at].rstrip() if strips else text[:at]

    def _adapted(self, message: Message) -> Message:
        """The message in the forms this template reads."""
        if message["role"] == "developer" and not self._knows_developer:
            message = message | {"role": "system"}
        content = message.get("content")
        if isinstance(content, list) and not self._reads_parts:
            return message | {"content": "\n".join(part["text"] for part in content)}
        if isinstance(content, str) and not self._reads_text:
            return message | {"content": [{"type": "text", "text": content}]}
        return message


def reason(error: Exception) -> str:
    """The template's own words; what Jinja or Python says instead is about objects no client knows."""
    if type(error) is TemplateError:  # what `raise_exception` raises, and nothing else
        return str(error)
    missing = MISSING.search(str(error))
    if missing is None:
        return "it cannot be rendered with them"
    return f"it reads {missing[1] or missing[2]}, which is not there"


def with_ending(message: Message, ending: str) -> Message:
    """The message with `ending` after its content."""
    content = message.get("content")
    if isinstance(content, list):
        last = content[-1]
        return message | {"content": [*content[:-1], last | {"text": last["text"] + ending}]}
    return message | {"content": (content or "") + ending}
