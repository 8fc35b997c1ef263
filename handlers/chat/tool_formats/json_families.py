"""The formats whose arguments are JSON: one line of data for every name."""

from __future__ import annotations

from specserve.handlers.chat.tool_formats.json_calls import Header, JsonCallFormat
from specserve.handlers.chat.tool_formats.tool_format import ToolFormat, json_format

HERMES = JsonCallFormat(sections={"<tool_call>": "</tool_call>"})
LLAMA = JsonCallFormat(sections={"<|python_tag|>": ""}, bare="{", separators=(";", ","))
TOOL_CALLS = JsonCallFormat(sections={"<tool_calls>": "</tool_calls>"})
COMMAND = JsonCallFormat(
    sections={"<|START_ACTION|>": "<|END_ACTION|>"},
    name_keys=("tool_name", "name"),
    argument_keys=("parameters", "arguments"),
)
JSON_FAMILIES: tuple[ToolFormat, ...] = (
    json_format(
        "hermes",
        "Hermes 2 and 3, Qwen 2.5, Qwen 3, and many models trained on their data",
        '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>',
        HERMES,
    ),
    json_format(
        "qwen3_json",
        "Qwen 3, under another name",
        '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>',
        HERMES,
    ),
    json_format("granite4", "Granite 4", '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>', HERMES),
    json_format("ernie45", "ERNIE 4.5", '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>', HERMES),
    json_format(
        "longcat",
        "LongCat Flash",
        '<longcat_tool_call>{"name": "f", "arguments": {"a": 1}}</longcat_tool_call>',
        JsonCallFormat(sections={"<longcat_tool_call>": "</longcat_tool_call>"}),
    ),
    json_format(
        "mistral",
        "Mistral, Ministral, Magistral, Devstral: older and newer form",
        '[TOOL_CALLS]f[ARGS]{"a": 1} or [TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]',
        JsonCallFormat(
            sections={"[TOOL_CALLS]": ""}, header=Header(marks=("[CALL_ID]", "[ARGS]"), id_mark="[CALL_ID]")
        ),
    ),
    json_format("llama3_json", "Llama 3.1, 3.2 and 3.3", '{"name": "f", "parameters": {"a": 1}}', LLAMA),
    json_format(
        "llama4_json", "Llama 4, when it is told to write JSON", '{"name": "f", "parameters": {"a": 1}}', LLAMA
    ),
    json_format(
        "granite",
        "Granite 3.0 and 3.1",
        '<|tool_call|>[{"name": "f", "arguments": {"a": 1}}]',
        JsonCallFormat(sections={"<|tool_call|>": "", "<tool_call>": ""}),
    ),
    json_format(
        "granite-20b-fc",
        "Granite 20B function calling",
        '<function_call> {"name": "f", "arguments": {"a": 1}}',
        JsonCallFormat(sections={"<function_call>": ""}),
    ),
    json_format(
        "internlm",
        "InternLM 2.5",
        '<|action_start|><|plugin|>{"name": "f", "parameters": {"a": 1}}<|action_end|>',
        JsonCallFormat(sections={"<|action_start|><|plugin|>": "<|action_end|>"}),
    ),
    json_format(
        "jamba", "Jamba 1.5 and later", '<tool_calls>[{"name": "f", "arguments": {"a": 1}}]</tool_calls>', TOOL_CALLS
    ),
    json_format(
        "hunyuan_a13b", "Hunyuan A13B", '<tool_calls>[{"name": "f", "arguments": {"a": 1}}]</tool_calls>', TOOL_CALLS
    ),
    json_format(
        "phi4_mini_json",
        "Phi-4-mini",
        'functools[{"name": "f", "arguments": {"a": 1}}]',
        JsonCallFormat(sections={"functools": ""}),
    ),
    json_format(
        "xlam",
        "xLAM 2",
        '[{"name": "f", "arguments": {"a": 1}}]',
        JsonCallFormat(bare="[", sections={"```json": "```", "[TOOL_CALLS]": "", "<tool_call>": "</tool_call>"}),
    ),
    json_format(
        "apertus",
        "Apertus",
        '<|tools_prefix|>[{"f": {"a": 1}}]<|tools_suffix|>',
        JsonCallFormat(sections={"<|tools_prefix|>": "<|tools_suffix|>"}, name_is_key=True),
    ),
    json_format(
        "cohere_command3",
        "Command R7B and Command A",
        '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "f", "parameters": {"a": 1}}]<|END_ACTION|>',
        COMMAND,
    ),
    json_format(
        "cohere_command4",
        "later Command models",
        '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "f", "parameters": {"a": 1}}]<|END_ACTION|>',
        COMMAND,
    ),
    json_format(
        "gigachat3",
        "GigaChat 3",
        '<|function_call|>{"name": "f", "arguments": {"a": 1}}',
        JsonCallFormat(sections={"<|function_call|>": "", "function call<|role_sep|>": ""}),
    ),
    json_format(
        "deepseek_v3",
        "DeepSeek V3-0324 and R1-0528",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\\n```json\\n"
        '{"a": 1}\\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        JsonCallFormat(
            sections={"<｜tool▁calls▁begin｜>": "<｜tool▁calls▁end｜>"},
            call_start="<｜tool▁call▁begin｜>",
            call_end="<｜tool▁call▁end｜>",
            header=Header(prefix="function<｜tool▁sep｜>", marks=("```json",), fence="```"),
        ),
    ),
    json_format(
        "deepseek_v31",
        "DeepSeek V3.1",
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        JsonCallFormat(
            sections={"<｜tool▁calls▁begin｜>": "<｜tool▁calls▁end｜>"},
            call_start="<｜tool▁call▁begin｜>",
            call_end="<｜tool▁call▁end｜>",
            header=Header(marks=("<｜tool▁sep｜>",)),
        ),
    ),
    json_format(
        "kimi_k2",
        "Kimi K2",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
        '{"a": 1}<|tool_call_end|><|tool_calls_section_end|>',
        JsonCallFormat(
            sections={"<|tool_calls_section_begin|>": "<|tool_calls_section_end|>"},
            call_start="<|tool_call_begin|>",
            call_end="<|tool_call_end|>",
            header=Header(marks=("<|tool_call_argument_begin|>",), name_is_id=True),
        ),
    ),
)
