"""From a conversation to the prompt's text: which template, with which variables, rendered where."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from specserve.engine.api import Tokenizer
from specserve.generated.errors import InvalidPrompt, UnsupportedParameter
from specserve.handlers.chat.conversation import Conversation
from specserve.handlers.chat.request_templates import RequestTemplates
from specserve.handlers.chat.template import CallStyle, ChatTemplate, ContentFormat
from specserve.handlers.chat.template_linter import Findings, lint
from specserve.handlers.settings import ServerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateOptions:
    """`chat_template` replaces the tokenizer's. `default_kwargs` are variables that requests may override.

    `trusts_requests` lets requests bring templates of their own.
    """

    chat_template: str | None = None
    content_format: ContentFormat = "auto"
    default_kwargs: Mapping[str, Any] = field(default_factory=dict)
    trusts_requests: bool = False

    @classmethod
    def of(cls, settings: ServerSettings) -> TemplateOptions:
        return cls(
            chat_template=settings.chat_template,
            content_format=settings.chat_template_content_format,
            default_kwargs=settings.default_chat_template_kwargs or {},
            trusts_requests=settings.trust_request_chat_template,
        )


class Prompts:
    """Compiles the template at the first request that needs it. Methods block: call them in a worker thread."""

    def __init__(self, options: TemplateOptions | None = None) -> None:
        self.options = options or TemplateOptions()
        self._compiled: dict[Hashable, ChatTemplate] = {}
        self._on_demand: dict[tuple[str, tuple[str, ...]], bool] = {}
        self._findings: dict[Hashable, Findings] = {}
        self._lock = threading.Lock()
        self._of_requests = RequestTemplates()

    def template(self, tokenizer: Tokenizer, *, with_tools: bool = False) -> ChatTemplate:
        """The server's own; some models have one of its own `with_tools`.

        Raises InvalidPrompt when the model brings none, or a broken one.
        """
        source = self.source(tokenizer, with_tools=with_tools)
        if source is None:
            raise InvalidPrompt(
                "the model has no chat template; start the server with --chat-template, or use /v1/completions",
                param="messages",
            )
        key = key_of(source, tokenizer)
        with self._lock:
            if key not in self._compiled:
                try:
                    self._compiled[key] = ChatTemplate(source, tokenizer.special_tokens, self.options.content_format)
                except TemplateError as error:
                    place = f" in line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
                    raise InvalidPrompt(
                        f"the model's chat template is no valid Jinja template{place}: {error.message}; "
                        "start the server with --chat-template, or use /v1/completions",
                        param="messages",
                    ) from error
            return self._compiled[key]

    def text(self, tokenizer: Tokenizer, conversation: Conversation, chat_template: str | None = None) -> str:
        """`chat_template` is the request's own. Raises InvalidPrompt, UnsupportedParameter."""
        if self.options.default_kwargs:
            kwargs = dict(self.options.default_kwargs) | conversation.template_kwargs
            conversation = replace(conversation, template_kwargs=kwargs)
        if chat_template is None:
            return self._render(tokenizer, conversation)
        self.check_trust(param="chat_template")
        return self._of_requests.render(
            chat_template, tokenizer.special_tokens, self.options.content_format, conversation
        )

    def _render(self, tokenizer: Tokenizer, conversation: Conversation) -> str:
        return self.template(tokenizer, with_tools=bool(conversation.tools)).render(conversation)

    def source(self, tokenizer: Tokenizer, *, with_tools: bool = False) -> str | None:
        """The text of the server's own template, None when there is none."""
        name = "tool_use" if with_tools and "tool_use" in tokenizer.chat_templates else "default"
        return self.options.chat_template or tokenizer.chat_templates.get(name)

    def call_style(self, tokenizer: Tokenizer, chat_template: str | None = None) -> CallStyle:
        """How the template writes tool calls; of one that came with the request, as far as can be seen by reading."""
        if chat_template is not None:
            return CallStyle(
                short_ids="[TOOL_CALLS]" in chat_template,
                arguments_key="arguments" if '"arguments"' in chat_template else "parameters",
            )
        return self.template(tokenizer, with_tools=True).call_style

    def opens_thought_on_demand(self, tokenizer: Tokenizer, starts: tuple[str, ...], *, with_tools: bool) -> bool:
        """Whether the server's own template begins the reasoning, with one of these marks, for requests that ask."""
        key = (self.source(tokenizer, with_tools=with_tools) or "", starts)
        if key not in self._on_demand:
            self._on_demand[key] = self.template(tokenizer, with_tools=with_tools).opens_on_demand(starts)
        return self._on_demand[key]

    def findings(self, tokenizer: Tokenizer) -> Findings:
        """What the server's own template hides from the model. Raises InvalidPrompt as `template` does."""
        self.template(tokenizer)
        key = key_of(self.source(tokenizer) or "", tokenizer)
        if key not in self._findings:
            self._findings[key] = lint(partial(self._render, tokenizer))
        return self._findings[key]

    def remark(self, tokenizer: Tokenizer) -> str | None:
        """One short line for whoever starts the server; None when there is nothing to say."""
        try:
            line = self.findings(tokenizer).line
        except InvalidPrompt as error:
            return error.message
        return line and f"the chat template {line}"

    def check_trust(self, *, param: str) -> None:
        if not self.options.trusts_requests:
            raise UnsupportedParameter(
                f"{param}: this server renders with its own template; it must be started with "
                "--trust-request-chat-template to take one from a request",
                param=param,
            )


def key_of(source: str, tokenizer: Tokenizer) -> Hashable:
    """Models may share a template, and differ in the special tokens it writes."""
    return source, tuple(tokenizer.special_tokens.items())
