"""Requests in the shape in which coding agents send them, written by hand: each turn of one session."""

from __future__ import annotations

from typing import Any

HEADERS = {
    "x-api-key": "key",
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "interleaved-thinking-2025-05-14,context-management-2025-06-27",
    "x-app": "cli",
    "x-stainless-retry-count": "0",
}
CACHED = {"cache_control": {"type": "ephemeral"}}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def tool(name: str, description: str, properties: dict[str, Any], *required: str) -> dict[str, Any]:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    return {"name": name, "description": description, "input_schema": schema}


PATH_OF_FILE = {"type": "string", "description": "Absolute path"}
TODO = {
    "type": "object",
    "properties": {
        "content": {"type": "string", "minLength": 1},
        "status": {"type": "string", "enum": ["pending", "in_progress", "completed"]},
    },
    "required": ["content", "status"],
    "additionalProperties": False,
}
TOOLS = [
    tool("Read", "Reads a file.", {"file_path": PATH_OF_FILE, "offset": {"type": "number"}}, "file_path"),
    tool("Write", "Writes a file.", {"file_path": PATH_OF_FILE, "content": {"type": "string"}}, "file_path", "content"),
    tool(
        "Edit",
        "Replaces text in a file.",
        {
            "file_path": PATH_OF_FILE,
            "old_string": {"type": "string"},
            "new_string": {"type": "string"},
            "replace_all": {"type": "boolean", "default": False},
        },
        "file_path",
        "old_string",
        "new_string",
    ),
    tool(
        "Bash",
        "Runs a command.",
        {"command": {"type": "string"}, "timeout": {"type": "number"}, "run_in_background": {"type": "boolean"}},
        "command",
    ),
    tool("Grep", "Searches files.", {"pattern": {"type": "string"}, "-n": {"type": "boolean"}}, "pattern"),
    tool("TodoWrite", "Keeps a list of what is to be done.", {"todos": {"type": "array", "items": TODO}}, "todos"),
    tool("mcp__files__list", "Lists files.", {"path": {"anyOf": [{"type": "string"}, {"type": "null"}]}}),
    {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
]
SYSTEM = [
    text("x-anthropic-billing-header: cc_version=2.1.3; cc_entrypoint=cli; cch=1a2b3;"),
    text("You are a coding agent.", **CACHED),
    text("Environment: Linux, a git repository. Be brief.", cache_control={"type": "ephemeral", "ttl": "1h"}),
]
COMMON: dict[str, Any] = {
    "max_tokens": 32000,
    "system": SYSTEM,
    "tools": TOOLS,
    "metadata": {"user_id": "user_0123_account__session_4567"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"},
    "stream": True,
}
FIRST = {
    "role": "user",
    "content": [text("<system-reminder>Today is a good day.</system-reminder>"), text("What is in a.py?", **CACHED)],
}
CALLS = {
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": "I should read the file.", "signature": "EqQBCgIYAhIM"},
        {"type": "redacted_thinking", "data": "EmwKAhgB"},
        text("I will read it."),
        {"type": "tool_use", "id": "toolu_01", "name": "Read", "input": {"file_path": "/a.py"}},
        {"type": "tool_use", "id": "toolu_02", "name": "Grep", "input": {"pattern": "def ", "-n": True}, **CACHED},
    ],
}
RESULTS = {
    "role": "user",
    "content": [
        {"type": "tool_result", "tool_use_id": "toolu_01", "content": "1\tdef add(a, b):\n2\t    return a + b"},
        {
            "type": "tool_result",
            "tool_use_id": "toolu_02",
            "content": [text("no such pattern")],
            "is_error": True,
            **CACHED,
        },
        text("<system-reminder>Keep the list up to date.</system-reminder>"),
    ],
}
REQUESTS: dict[str, dict[str, Any]] = {
    "a probe for the quota": {"max_tokens": 1, "messages": [{"role": "user", "content": "quota"}], "metadata": {}},
    "a title, in a form": {
        "max_tokens": 512,
        "messages": [{"role": "user", "content": [text("What is in a.py?")]}],
        "system": [text("Write a title.")],
        "tools": [],
        "thinking": {"type": "disabled"},
        "output_config": {
            "format": {
                "type": "json_schema",
                "schema": {
                    "type": "object",
                    "properties": {"title": {"type": "string"}},
                    "required": ["title"],
                    "additionalProperties": False,
                },
            }
        },
        "stream": True,
    },
    "the first turn": COMMON | {"messages": [FIRST]},
    "a turn with results": COMMON | {"messages": [FIRST, CALLS, RESULTS]},
    "a turn after an answer": COMMON
    | {"messages": [FIRST, CALLS, RESULTS, {"role": "assistant", "content": [text("It adds.")]}, FIRST]},
    "a turn that was broken off": COMMON
    | {"messages": [FIRST, {"role": "assistant", "content": ""}, {"role": "user", "content": "Go on."}]},
    "a prefilled answer": {
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Is it safe?"}, {"role": "assistant", "content": "<answer>"}],
        "stop_sequences": ["</answer>"],
        "system": "Judge the command.",
    },
}
