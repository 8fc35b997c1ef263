"""What Open Responses (version 2026-04-24) asks of a response and of its events: which keys, which may be null.

Written down here from the public specification as facts, shorter than there: an oracle beside the document that this
server publishes itself. Names of events are those of OpenAI's clients; the specification calls the two of reasoning
`response.reasoning.*` in one place and `response.reasoning_text.*` in another.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
ANYTHING: Schema = {}


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def listed(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def record(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object with these keys; others are let through, as the specification does."""
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


TOP_LOGPROB = record({"token": TEXT, "logprob": NUMBER, "bytes": listed(WHOLE)})
LOGPROB = record({"token": TEXT, "logprob": NUMBER, "bytes": listed(WHOLE), "top_logprobs": listed(TOP_LOGPROB)})
OUTPUT_TEXT = record(
    {"type": one_of("output_text"), "text": TEXT, "annotations": listed(ANYTHING), "logprobs": listed(LOGPROB)}
)
REFUSAL = record({"type": one_of("refusal"), "refusal": TEXT})
REASONING_TEXT = record({"type": one_of("reasoning_text"), "text": TEXT})
SUMMARY_TEXT = record({"type": one_of("summary_text"), "text": TEXT})
PART: Schema = {"oneOf": [OUTPUT_TEXT, REFUSAL, REASONING_TEXT, SUMMARY_TEXT]}
STATUS = one_of("in_progress", "completed", "incomplete")
MESSAGE = record(
    {"type": one_of("message"), "id": TEXT, "status": STATUS, "role": one_of("assistant"), "content": listed(PART)}
)
CALL = record(
    {"type": one_of("function_call"), "id": TEXT, "call_id": TEXT, "name": TEXT, "arguments": TEXT, "status": STATUS}
)
REASONING = record(
    {"type": one_of("reasoning"), "id": TEXT, "summary": listed(SUMMARY_TEXT)},
    {"content": listed(REASONING_TEXT), "encrypted_content": TEXT},
)
ITEM: Schema = {"oneOf": [MESSAGE, CALL, REASONING]}

FUNCTION_TOOL = record(
    {
        "type": one_of("function"),
        "name": TEXT,
        "description": nullable(TEXT),
        "parameters": nullable({"type": "object"}),
        "strict": nullable(FLAG),
    }
)
NAMED_TOOL = record({"type": one_of("function")}, {"name": TEXT})
TOOL_MODE = one_of("none", "auto", "required")
TOOL_CHOICE: Schema = {
    "oneOf": [
        TOOL_MODE,
        NAMED_TOOL,
        record({"type": one_of("allowed_tools"), "tools": listed(NAMED_TOOL), "mode": TOOL_MODE}),
    ]
}
USAGE = record(
    {
        "input_tokens": WHOLE,
        "output_tokens": WHOLE,
        "total_tokens": WHOLE,
        "input_tokens_details": record({"cached_tokens": WHOLE}),
        "output_tokens_details": record({"reasoning_tokens": WHOLE}),
    }
)
EFFORT = one_of("none", "minimal", "low", "medium", "high", "xhigh")
RESPONSE = record(
    {
        "id": TEXT,
        "object": one_of("response"),
        "created_at": WHOLE,
        "completed_at": nullable(WHOLE),
        "status": TEXT,
        "incomplete_details": nullable(record({"reason": TEXT})),
        "model": TEXT,
        "previous_response_id": nullable(TEXT),
        "instructions": nullable(TEXT),
        "output": listed(ITEM),
        "error": nullable(record({"code": TEXT, "message": TEXT})),
        "tools": listed(FUNCTION_TOOL),
        "tool_choice": TOOL_CHOICE,
        "truncation": one_of("auto", "disabled"),
        "parallel_tool_calls": FLAG,
        "text": record(
            {"format": record({"type": one_of("text", "json_object", "json_schema")})},
            {"verbosity": one_of("low", "medium", "high")},
        ),
        "top_p": NUMBER,
        "presence_penalty": NUMBER,
        "frequency_penalty": NUMBER,
        "top_logprobs": WHOLE,
        "temperature": NUMBER,
        "reasoning": nullable(
            record({"effort": nullable(EFFORT), "summary": nullable(one_of("concise", "detailed", "auto"))})
        ),
        "usage": nullable(USAGE),
        "max_output_tokens": nullable(WHOLE),
        "max_tool_calls": nullable(WHOLE),
        "store": FLAG,
        "background": FLAG,
        "service_tier": TEXT,
        "metadata": ANYTHING,
        "safety_identifier": nullable(TEXT),
        "prompt_cache_key": nullable(TEXT),
    }
)

OF_ITEM = {"item_id": TEXT, "output_index": WHOLE}
OF_PART = {**OF_ITEM, "content_index": WHOLE}
STATE = {"response": RESPONSE}
LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed")
EVENTS: dict[str, Schema] = {
    name: record({"type": one_of(name), "sequence_number": WHOLE, **keys})
    for name, keys in {
        **{f"response.{state}": STATE for state in ("created", "queued", "in_progress")},
        **dict.fromkeys(LAST_EVENTS, STATE),
        **{f"response.output_item.{end}": {"output_index": WHOLE, "item": nullable(ITEM)} for end in ("added", "done")},
        **{f"response.content_part.{end}": {**OF_PART, "part": PART} for end in ("added", "done")},
        "response.output_text.delta": {**OF_PART, "delta": TEXT, "logprobs": listed(LOGPROB)},
        "response.output_text.done": {**OF_PART, "text": TEXT, "logprobs": listed(LOGPROB)},
        "response.reasoning_text.delta": {**OF_PART, "delta": TEXT},
        "response.reasoning_text.done": {**OF_PART, "text": TEXT},
        "response.function_call_arguments.delta": {**OF_ITEM, "delta": TEXT},
        "response.function_call_arguments.done": {**OF_ITEM, "arguments": TEXT},
    }.items()
}
