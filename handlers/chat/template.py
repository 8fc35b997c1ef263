"""Chat templates: a conversation as the text the model was trained on.

Rendered by Jinja in a sandbox, with the names that templates on the Hugging Face hub expect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from jinja2 import TemplateError
from jinja2.runtime import Context

from specserve.generated.errors import InvalidPrompt
from specserve.handlers.chat.conversation import Conversation, Message
from specserve.handlers.chat.template_environment import template_environment
from specserve.handlers.chat.tool_ids import SHORT_ID, short_id
from specserve.handlers.errors import bounded

ContentFormat = Literal["auto", "string", "openai"]
MAX_PROMPT_CHARS = 2**25
"""More text than this is no prompt: the largest contexts hold a tenth of it."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStyle:
    """`short_ids`: ids must be nine letters and digits, as Mistral's templates insist. `arguments_key` is where a call
    in JSON has its arguments: `arguments` or `parameters`.
    """

    short_ids: bool = False
    arguments_key: str = "parameters"


class ChatTemplate:
    """A compiled template. `render` blocks for as long as the template runs: call it in a worker thread.

    Content comes as text or as a list of text parts. With the content format `auto`, what the template was written
    for is found out by rendering a probe in both forms; `string` and `openai` (parts) say it. The other form is turned
    into it. Parts joined to one text have a line break between them.
    """

    def __init__(self, source: str, special_tokens: dict[str, str], content_format: ContentFormat = "auto") -> None:
        """Raises jinja2.TemplateError when the source is not a template."""
        self._template = template_environment().from_string(source)
        self._globals = dict(self._template.globals)
        self._source = source
        self._special_tokens = special_tokens
        self._knows_developer = "developer" in source
        self._reads_parts = content_format == "openai" or (
            content_format == "auto" and self._shows([{"type": "text", "text": PROBE}])
        )
        self._reads_text = content_format != "openai" and (self._shows(PROBE) or not self._reads_parts)

    @property
    def content_format(self) -> Literal["string", "openai"]:
        """`openai` when it reads lists of parts, else `string`."""
        return "openai" if self._reads_parts else "string"

    @cached_property
    def call_style(self) -> CallStyle:
        """How it writes tool calls."""
        with_long_id = self._written_call("call_0123456789abcdef")
        with_short_id = self._written_call("a1b2c3d4e")
        text = with_long_id or with_short_id or ""
        between = text.partition(f"{PROBE}-name")[2].partition(f"{PROBE}-value")[0]
        return CallStyle(
            short_ids="[TOOL_CALLS]" in self._source or (with_long_id is None and with_short_id is not None),
            arguments_key="arguments" if '"arguments"' in between else "parameters",
        )

    def opens_on_demand(self, starts: Sequence[str]) -> bool:
        """Whether it writes one of these marks at the end of a prompt when it is asked for thought, and only then."""

        def opens(**asked: bool) -> bool:
            messages = [{"role": "user", "content": PROBE}]
            try:
                text = self._template.render(
                    **self._special_tokens, **asked, messages=messages, add_generation_prompt=True
                )
            except TEMPLATE_FAILURES:
                return False
            return text.rstrip().endswith(tuple(start.rstrip() for start in starts))

        return opens(enable_thinking=True, thinking=True) and not opens()

    def _written_call(self, call_id: str) -> str | None:
        """A conversation with a call; None when it is refused."""
        function = {"name": f"{PROBE}-name", "arguments": {"key": f"{PROBE}-value"}}
        messages: list[Message] = [
            {"role": "user", "content": PROBE},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": call_id, "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": call_id, "name": f"{PROBE}-name", "content": PROBE},
        ]
        try:
            return self._template.render(**self._special_tokens, messages=messages, add_generation_prompt=True)
        except TEMPLATE_FAILURES:
            return None

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
        short_ids = self.call_style.short_ids
        messages = [self._adapted(message, short_ids) for message in conversation.messages]
        try:
            return self._render_as_asked(conversation, messages)
        except InvalidPrompt:
            mended = [with_object_arguments(message) for message in messages]
            if mended == messages:
                raise
        return self._render_as_asked(conversation, mended)

    def _render_as_asked(self, conversation: Conversation, messages: list[Message]) -> str:
        if conversation.continue_final_message:
            return self._render_open(conversation, messages)
        return self._render(conversation, messages, add_generation_prompt=conversation.add_generation_prompt)

    def _render(self, conversation: Conversation, messages: list[Message], *, add_generation_prompt: bool) -> str:
        variables: dict[str, Any] = {
            **self._globals,
            **self._special_tokens,
            **conversation.template_kwargs,
            "messages": messages,
            "tools": conversation.tools or None,
            "documents": conversation.documents or None,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            # `generate` is one more generator around the same, for tracebacks that nobody sees here.
            # As `new_context` does it, which takes its time to look for the globals.
            template = self._template
            assert template.environment is not None
            context = Context(template.environment, variables, template.name, template.blocks)
            return bounded_text(self._template.root_render_func(context))
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

    def _adapted(self, message: Message, short_ids: bool) -> Message:
        """The message in the forms this template reads."""
        if short_ids:
            message = with_short_ids(message)
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
    if isinstance(error, MemoryError):
        return "it needs too much memory"
    if isinstance(error, RecursionError):
        return "it calls itself too deeply"
    missing = MISSING.search(str(error))
    if missing is None:
        return "it cannot be rendered with them"
    return f"it reads {missing[1] or missing[2]}, which is not there"


def bounded_text(pieces: Iterator[str]) -> str:
    """Raises TemplateError beyond MAX_PROMPT_CHARS, as soon as they are reached."""
    found: list[str] = []
    room = MAX_PROMPT_CHARS
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            raise TemplateError(f"it writes more than {MAX_PROMPT_CHARS} characters")
        found.append(piece)
    return "".join(found)


def with_short_ids(message: Message) -> Message:
    """Ids of other forms replaced, a call's and its result's alike: they come from other servers and other models."""
    if isinstance(sent := message.get("tool_call_id"), str) and not SHORT_ID.fullmatch(sent):
        message = message | {"tool_call_id": short_id(sent)}
    if calls := message.get("tool_calls"):
        renamed = [
            call | {"id": call["id"] if SHORT_ID.fullmatch(call["id"]) else short_id(call["id"])} for call in calls
        ]
        message = message | {"tool_calls": renamed}
    return message


def with_object_arguments(message: Message) -> Message:
    """Arguments that are no JSON object, as a model may write them, inside of one: some templates read nothing else."""
    calls = []
    for call in message.get("tool_calls") or []:
        arguments = call["function"]["arguments"]
        if not isinstance(arguments, dict):
            call = call | {"function": call["function"] | {"arguments": {"arguments": arguments}}}
        calls.append(call)
    return message | {"tool_calls": calls} if calls else message


def with_ending(message: Message, ending: str) -> Message:
    """The message with `ending` after its content."""
    content = message.get("content")
    if isinstance(content, list):
        last = content[-1]
        return message | {"content": [*content[:-1], last | {"text": last["text"] + ending}]}
    return message | {"content": (content or "") + ending}
