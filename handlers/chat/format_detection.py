"""Which formats a model writes, told by the marks in its chat template."""

from __future__ import annotations

TOOL_MARKS = (
    (("<|channel|>", "<|start|>"), "openai"),
    (("<｜DSML｜", "tool_calls>"), "deepseek_v4"),
    (("<｜DSML｜",), "deepseek_v32"),
    (("<｜tool▁calls▁begin｜>", "```json"), "deepseek_v3"),
    (("<｜tool▁calls▁begin｜>",), "deepseek_v31"),
    (("<|tool_calls_section_begin|>",), "kimi_k2"),
    (("<|open|>", "tools<|sep|>"), "kimi_k3"),
    (("<minimax:tool_call>",), "minimax_m2"),
    (("<seed:tool_call>",), "seed_oss"),
    (("steptml:invoke",), "step3"),
    (("<dots_function_call>",), "dots"),
    (("<longcat_tool_call>",), "longcat"),
    (("<arg_key>",), "glm45"),
    (("<function=", "<parameter="), "qwen3_coder"),
    (("<param name=", "<function name="), "minicpm5"),
    (("<start_function_call>",), "functiongemma"),
    (("<|tool_call>", "<tool_call|>"), "gemma4"),
    (("<|START_ACTION|>", "<|START_TEXT|>"), "cohere_command4"),
    (("<|START_ACTION|>",), "cohere_command3"),
    (("<|tools_prefix|>",), "apertus"),
    (("<|action_start|>",), "internlm"),
    (("<|tool_call_start|>",), "lfm2"),
    (("<|python_start|>",), "llama4_pythonic"),
    (("[func_name1(",), "pythonic"),
    (("<|start_header_id|>", '"parameters"'), "llama3_json"),
    (("<|python_tag|>",), "llama3_json"),
    (("[TOOL_CALLS]",), "mistral"),
    (("functools[",), "phi4_mini_json"),
    (("function call<|role_sep|>",), "gigachat3"),
    (("<tool_calls>", "<answer>"), "hunyuan_a13b"),
    (("<tool_calls>",), "jamba"),
    (("<function_calls>",), "olmo3"),
    (("<function_call>",), "granite-20b-fc"),
    (("<|tool_call|>",), "granite"),
    (("<tool_call>", "<response>"), "ernie45"),
    (("<tool_call>", "<|start_of_role|>"), "granite4"),
    (("<tool_call>",), "hermes"),
)
"""Marks that are all in the template → the tool format. The first line that fits decides, so the rarer come first."""

REASONING_MARKS = (
    (("<|channel|>", "<|start|>"), "openai_gptoss"),
    (("[THINK]",), "mistral"),
    (("<seed:think>",), "seed_oss"),
    (("<mm:think>",), "minimax_m3"),
    (("<|START_THINKING|>", "<|START_TEXT|>"), "cohere_command4"),
    (("<|START_THINKING|>",), "cohere_command3"),
    (("<|channel>thought",), "gemma4"),
    (("Here is my thought process:",), "granite"),
    (("<|open|>think<|sep|>",), "kimi_k3"),
    (("</think>", "<answer>"), "hunyuan_a13b"),
    (("</think>", "<response>"), "ernie45"),
    (("</think>", "<minimax:tool_call>"), "minimax_m2"),
    (("</think>", "steptml:invoke"), "step3"),
    (("</think>", "<arg_key>"), "glm45"),
    (("</think>", "<|tool_calls_section_begin|>"), "kimi_k2"),
    (("</think>", "<｜DSML｜"), "deepseek_v3"),
    (("</think>", "<｜Assistant｜>", "thinking"), "deepseek_v3"),
    (("</think>", "<｜Assistant｜>"), "deepseek_r1"),
    (("</think>", "<function_calls>"), "olmo3"),
    (("</think>",), "qwen3"),
    (("<think>",), "qwen3"),
)
"""The same for reasoning."""


def detected_tool_format(template: str) -> str | None:
    return first_fit(TOOL_MARKS, template)


def detected_reasoning_format(template: str) -> str | None:
    return first_fit(REASONING_MARKS, template)


def first_fit(table: tuple[tuple[tuple[str, ...], str], ...], template: str) -> str | None:
    return next((name for marks, name in table if all(mark in template for mark in marks)), None)
