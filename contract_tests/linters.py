"""Which rules hold for the streams of which operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from contract_tests.message_linter import lint_message
from contract_tests.response_linter import lint_response
from contract_tests.stream_linter import KINDS, lint

Linter = Callable[[str, str, Mapping[str, Any]], list[str]]
"""From the text of a stream, its path and the request's body to everything that is wrong with it."""

RESPONSES = ("/v1/responses", "/v1/responses/{response_id}")
LINTERS: dict[str, Linter] = {
    **dict.fromkeys(KINDS, lint),
    **dict.fromkeys(RESPONSES, lint_response),
    "/v1/messages": lint_message,
}


def lint_stream(text: str, path: str, request: Mapping[str, Any]) -> list[str]:
    """`path` may be that of one response."""
    known = path if path in LINTERS else f"{path.rpartition('/')[0]}/{{response_id}}"
    return LINTERS[known](text, path, request)
