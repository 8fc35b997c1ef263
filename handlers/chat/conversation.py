"""A conversation in the chat template's own vocabulary: the neutral form every chat protocol is read into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from specserve.generated.errors import UnsupportedValue
from specserve.handlers.settings import RESERVED_TEMPLATE_VARIABLES

Message = dict[str, Any]
"""`role`, `content` (text, or a list of text parts as they came), and what templates read: `name`, `tool_calls` with
arguments as objects, `tool_call_id`, `reasoning_content`."""

Tool = dict[str, Any]
"""A function tool in the JSON form templates render: `{"type": "function", "function": {…}}`."""


class KnownObject(dict[str, Any]):
    """An object that never changes and may be rendered often: whoever writes it as JSON keeps the text here."""

    __slots__ = ("_json",)

    def __init__(self, entries: Mapping[str, Any]) -> None:
        super().__init__(entries)
        self._json: str | None = None  # with an underscore, so that templates cannot see it


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """`continue_final_message` leaves the last message open, so that the model goes on in it."""

    messages: list[Message]
    tools: list[Tool] = field(default_factory=list)
    documents: list[dict[str, str]] = field(default_factory=list)
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool = False


def text_of(message: Message) -> str:
    """A message's content as one text, its parts joined as for templates that read no parts."""
    content = message["content"]
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content)
    return content if isinstance(content, str) else ""


def template_variables(sent: Mapping[str, Any] | None, effort: str | None = None) -> dict[str, Any]:
    """The request's `chat_template_kwargs`, and what an effort of reasoning says to templates.

    Raises UnsupportedValue for variables that the server sets.
    """
    reserved = sorted(RESERVED_TEMPLATE_VARIABLES & (sent or {}).keys())
    if reserved:
        raise UnsupportedValue(
            f"chat_template_kwargs may not set {', '.join(reserved)}; the server does",
            param=f"chat_template_kwargs.{reserved[0]}",
        )
    asked = {} if effort is None else {"reasoning_effort": effort, "enable_thinking": effort != "none"}
    return asked | dict(sent or {})
