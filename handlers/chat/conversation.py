"""A conversation in the chat template's own vocabulary: the neutral form every chat protocol is read into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
"""`role`, `content` (text, or a list of text parts as they came), and what templates read: `name`, `tool_calls` with
arguments as objects, `tool_call_id`, `reasoning_content`."""

Tool = dict[str, Any]
"""A function tool in the JSON form templates render: `{"type": "function", "function": {…}}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """`continue_final_message` leaves the last message open, so that the model goes on in it."""

    messages: list[Message]
    tools: list[Tool] = field(default_factory=list)
    documents: list[dict[str, str]] = field(default_factory=list)
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
