"""Every operation we share with OpenAI takes and gives at least what the installed client's own types say."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import openai.types
import openai.types.chat
import parity
import pytest
from openai.pagination import SyncPage
from openai.types import responses
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming as ChatWhole,
)
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsStreaming as ChatStreamed,
)
from openai.types.completion_create_params import CompletionCreateParamsNonStreaming as Whole
from openai.types.completion_create_params import CompletionCreateParamsStreaming as Streamed
from openai.types.embedding_create_params import EmbeddingCreateParams
from openai.types.responses.input_token_count_params import InputTokenCountParams
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming as ResponseWhole
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming as ResponseStreamed
from parity import EVENTS, JSON, gaps, of_document, of_python, schema_of

from specserve.generated import document

TARGETS: dict[tuple[str, str, str], Any] = {
    ("post", "/v1/chat/completions", "request"): ChatWhole | ChatStreamed,
    ("post", "/v1/chat/completions", JSON): openai.types.chat.ChatCompletion,
    ("post", "/v1/chat/completions", EVENTS): openai.types.chat.ChatCompletionChunk,
    ("post", "/v1/completions", "request"): Whole | Streamed,
    ("post", "/v1/completions", JSON): openai.types.Completion,
    ("post", "/v1/completions", EVENTS): openai.types.Completion,
    ("post", "/v1/responses", "request"): ResponseWhole | ResponseStreamed,
    ("post", "/v1/responses", JSON): responses.Response,
    ("post", "/v1/responses", EVENTS): responses.ResponseStreamEvent,
    ("post", "/v1/responses/input_tokens", "request"): InputTokenCountParams,
    ("post", "/v1/responses/input_tokens", JSON): InputTokenCountResponse,
    ("get", "/v1/responses/{response_id}", JSON): responses.Response,
    ("get", "/v1/responses/{response_id}", EVENTS): responses.ResponseStreamEvent,
    ("post", "/v1/responses/{response_id}/cancel", JSON): responses.Response,
    ("get", "/v1/responses/{response_id}/input_items", JSON): responses.ResponseItemList,
    ("post", "/v1/embeddings", "request"): EmbeddingCreateParams,
    ("post", "/v1/embeddings", JSON): openai.types.CreateEmbeddingResponse,
    ("get", "/v1/models", JSON): SyncPage[openai.types.Model],
    ("get", "/v1/models/{model}", JSON): openai.types.Model,
}
HOSTED_ITEMS = """web_search_call tool_search_output tool_search_call shell_call_output shell_call program_output
    program mcp_list_tools mcp_call mcp_approval_response mcp_approval_request local_shell_call_output local_shell_call
    image_generation_call file_search_call computer_call_output computer_call compaction code_interpreter_call
    apply_patch_call_output apply_patch_call"""
HOSTED_EVENTS = """web_search_call shell_call_output_content shell_call_command mcp_list_tools mcp_call
    mcp_call_arguments image_generation_call file_search_call compaction code_interpreter_call
    code_interpreter_call_code audio audio.transcript refusal reasoning_summary_text reasoning_summary_part
    output_text.annotation"""
HOSTED_FIELDS = """access_programs image input_transformations prompt_cache_diagnostics tool_usage moderation"""


def one_of(names: str) -> str:
    return f"({'|'.join(names.split())})"


WAIVED = {
    rf"^/v1/responses.*{pattern}": reason
    for pattern, reason in {
        rf"<{one_of(HOSTED_ITEMS)}> lacks the object": "no hosted tool runs here, so none leaves items",
        r"(output\[\]|item)<\w*_output> lacks the object": "results of calls are sent by clients only",
        r"<additional_tools/[a-z/]*>( lacks the object|\..*)": "tools are not added by answers",
        rf"<response\.{one_of(HOSTED_EVENTS)}\.\w+> lacks the object": "answers never have such parts",
        r"<error> lacks the object": "a stream that breaks ends with response.failed",
        rf"{one_of(HOSTED_FIELDS)} is missing": "it is about something that is not offered, and optional",
        r"(cache_write_tokens_details|error\.misalignment) is missing": "it is optional, and not known here",
        r"\.(async|caller|created_by) is missing": "calls come from the model, which waits for their results",
        r"(created_at|completed_at) lacks the type number": "these are whole seconds",
        r"instructions lacks the type array": "requests have instructions as a text, and so have responses",
        r"(<namespace>.description|<mcp>.server_label) is optional": "the response repeats what was sent",
        r"(<input_image>.detail|<output_text>.annotations) is optional": "input items are listed as they were sent",
    }.items()
}
"""Pattern of "path of the operation | gap" → why it is right all the same. One that is not needed is a failure."""


def is_waived(path: str, gap: str) -> bool:
    return any(re.search(pattern, f"{path} | {gap}") for pattern in WAIVED)


def found_gaps() -> Iterator[tuple[str, str]]:
    for (method, path, part), target in TARGETS.items():
        is_request = part == "request"
        for gap in gaps(of_python(target), of_document(schema_of(method, path, part)), part, is_request, set()):
            yield path, gap


@pytest.mark.parametrize("path", sorted({path for _, path, _ in TARGETS}))
def test_nothing_of_the_clients_types_is_missing(path: str) -> None:
    assert [gap for where, gap in found_gaps() if where == path and not is_waived(where, gap)] == []


def test_every_waiver_is_needed() -> None:
    lines = [f"{path} | {gap}" for path, gap in found_gaps()]
    assert [pattern for pattern in WAIVED if not any(re.search(pattern, line) for line in lines)] == []
    assert all(WAIVED.values())


def test_every_operation_that_openai_has_too_is_compared() -> None:
    """A path the client's own resources call, and we serve, is in the table."""
    compared = {(method, path) for method, path, _ in TARGETS}
    openais = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/embeddings", "/v1/responses", "/v1/audio")
    for path, item in parity.DOCUMENT["paths"].items():
        if path.startswith(openais) and not path.endswith("/render"):
            wanted = {(method, path) for method in item if method != "delete"}  # the client reads no answer to these
            assert wanted <= compared


@pytest.mark.parametrize(
    ("spoil", "gap"),
    [
        (lambda s: s["CompletionRequest"]["properties"].pop("echo"), "request.echo is missing"),
        (
            lambda s: s["CompletionRequest"]["required"].append("suffix"),
            "request.suffix is required here, the client may leave it out",
        ),
        (
            lambda s: s["CompletionFinishReason"]["enum"].remove("length"),
            "application/json.choices[].finish_reason lacks the value 'length'",
        ),
        (lambda s: s["Completion"]["required"].remove("created"), "application/json.created is optional here"),
        (
            lambda s: s["CompletionRequest"]["properties"].update(echo={"type": "string"}),
            "request.echo lacks the type boolean",
        ),
        (
            lambda s: s["CompletionRequest"]["properties"].update(prompt={"type": "string"}),
            "request.prompt lacks the type array",
        ),
        (lambda s: s["NamedToolChoice"]["properties"]["type"].update(const="func"), "request.tool_choice"),
        (lambda s: s["TextPart"]["properties"].pop("text"), "text is missing"),
    ],
    ids=["field", "required", "value", "optional", "type", "array", "branch", "deep field"],
)
def test_a_gap_is_found(spoil: Callable[[dict[str, Any]], object], gap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled = json.loads(document())
    spoiled["components"]["schemas"]["CompletionRequest"].setdefault("required", [])
    spoil(spoiled["components"]["schemas"])
    monkeypatch.setattr(parity, "DOCUMENT", spoiled)
    assert any(gap in found for _, found in found_gaps())
