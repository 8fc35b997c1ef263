"""The operations we share with Anthropic take and give at least what the installed client's own types say.

What only Anthropic's servers have is waived by its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import anthropic.types as client
import pytest
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from parity import DOCUMENT, gaps, of_document, of_python

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
    "request": (MessageCreateParamsNonStreaming | MessageCreateParamsStreaming, request_of(MESSAGES), True),
    "count request": (MessageCountTokensParams, request_of(COUNT), True),
    "reply": (client.Message, reply_of(MESSAGES), False),
    "count": (client.MessageTokensCount, reply_of(COUNT), False),
    "error": (client.shared.ErrorResponse, component("MessagesErrorResponse"), False),
    **{name: (kind, component(name), False) for name, kind in EVENTS.items()},
}
SERVER_BLOCK = "<(server_tool_use|[a-z_]+_tool_result|container_upload)>"
WAIVED = {
    rf".*request\.messages\[\]\.content\[\]{SERVER_BLOCK}\..* is missing": "refused by their type, whatever is in them",
    r".*<browser_state> lacks the object .*": "of a browser that Anthropic's tools drive; refused by its type",
    rf"(reply|MessageStart|BlockStart)\..*({SERVER_BLOCK}|<redacted_thinking>) lacks the object .*": "never written",
    r".*\.citations lacks the type array|.*<citations_delta> lacks the object .*": "nothing is cited",
    r".*\.(caller|toolset_name) lacks .*": "tools are called by the model, one by one",
    r".*\.(container|diagnostics|stop_details) lacks the object .*": "always null or left out",
    r".*\.usage\.(cache_creation|inference_geo|server_tool_use|speed) lacks .*": "always left out",
    r"error\.error lacks the object BillingErrorObject.*": "nothing is billed",
}
"""Gaps, and why they are right all the same. One that is not needed any more is a failure."""


def found_gaps() -> Iterator[str]:
    for name, (kind, schema, is_request) in TARGETS.items():
        yield from gaps(of_python(kind), of_document(schema), name, is_request, set())


@pytest.fixture(scope="module")
def found() -> list[str]:
    return list(found_gaps())


def test_nothing_of_the_clients_types_is_missing(found: list[str]) -> None:
    assert [gap for gap in found if not any(re.fullmatch(pattern, gap) for pattern in WAIVED)] == []


@pytest.mark.parametrize("pattern", WAIVED)
def test_every_waiver_is_needed(pattern: str, found: list[str]) -> None:
    assert any(re.fullmatch(pattern, gap) for gap in found)
    assert WAIVED[pattern]


@pytest.mark.parametrize(
    ("schema", "field", "gap"),
    [
        ("MessagesRequest", "stop_sequences", "request.stop_sequences is missing"),
        ("ClientTool", "strict", "request.tools[].strict is missing"),
        ("MessageReply", "stop_reason", "reply.stop_reason is missing"),
        ("MessageUsage", "output_tokens", "MessageDelta.usage.output_tokens is missing"),
    ],
)
def test_a_gap_is_found(schema: str, field: str, gap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(component(schema)["properties"], field)
    assert gap in [re.sub("<[a-z_]+>", "", found) for found in found_gaps()]
