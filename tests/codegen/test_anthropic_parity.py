"""The operations we share with Anthropic take and give at least what the installed client's own types say.

The comparison is that of `test_openai_parity`. What only Anthropic's servers have is waived by its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import Any

import anthropic.types as client
import pytest
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from test_openai_parity import DOCUMENT, gaps, of_document, of_python

MESSAGES, COUNT = DOCUMENT["paths"]["/v1/messages"]["post"], DOCUMENT["paths"]["/v1/messages/count_tokens"]["post"]
JSON = "application/json"


def request_of(operation: Any) -> Any:
    return operation["requestBody"]["content"][JSON]["schema"]


def reply_of(operation: Any) -> Any:
    return operation["responses"]["200"]["content"][JSON]["schema"]


def component(name: str) -> Any:
    return DOCUMENT["components"]["schemas"][name]


EVENTS = {
    "MessageStart": client.RawMessageStartEvent,
    "BlockStart": client.RawContentBlockStartEvent,
    "BlockDelta": client.RawContentBlockDeltaEvent,
    "BlockStop": client.RawContentBlockStopEvent,
    "MessageDelta": client.RawMessageDeltaEvent,
    "MessageStop": client.RawMessageStopEvent,
}
TARGETS: dict[str, tuple[Any, Any, bool]] = {
    "request": (reduce(or_, [MessageCreateParamsNonStreaming, MessageCreateParamsStreaming]), request_of(MESSAGES), True),
    "count request": (MessageCountTokensParams, request_of(COUNT), True),
    "reply": (client.Message, reply_of(MESSAGES), False),
    "count": (client.MessageTokensCount, reply_of(COUNT), False),
    "error": (client.shared.ErrorResponse, component("MessagesErrorResponse"), False),
    **{name: (kind, component(name), False) for name, kind in EVENTS.items()},
}
WAIVED = {
    r"request\.(messages|tools).*(server_tool|ServerTool|_result|tool_search|container_upload|mcp|caller).*": "",
}
