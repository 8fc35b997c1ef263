"""How a model would write given calls, for every tool format: written from the formats' descriptions, as an oracle.

Nothing of the server is used here. Arguments are Python values; what a format cannot say is told by `can_say`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Calls = list[tuple[str, dict[str, Any]]]


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def objects(calls: Calls, name: str = "name", arguments: str = "arguments") -> list[str]:
    return [f'{{"{name}": {dump(f)}, "{arguments}": {dump(a)}}}' for f, a in calls]


def each(start: str, end: str, between: str = "\n") -> Callable[[Calls], str]:
    return lambda calls: between.join(f"{start}\n{text}\n{end}" if end else start + text for text in objects(calls))


def array(start: str, end: str = "", arguments: str = "arguments") -> Callable[[Calls], str]:
    return lambda calls: f"{start}[{', '.join(objects(calls, arguments=arguments))}]{end}"


def mistral(calls: Calls) -> str:
    return "".join(f"[TOOL_CALLS]{f}[ARGS]{dump(a)}" for f, a in calls)


def llama(calls: Calls) -> str:
    return "; ".join(objects(calls, arguments="parameters"))


def internlm(calls: Calls) -> str:
    return "\n".join(
        f"<|action_start|><|plugin|>\n{text}<|action_end|>" for text in objects(calls, arguments="parameters")
    )


def apertus(calls: Calls) -> str:
    return "<|tools_prefix|>[" + ", ".join(f"{{{dump(f)}: {dump(a)}}}" for f, a in calls) + "]<|tools_suffix|>"


def command(calls: Calls) -> str:
    texts = [
        f'    {{"tool_call_id": "{at}", "tool_name": {dump(f)}, "parameters": {dump(a)}}}'
        for at, (f, a) in enumerate(calls)
    ]
    return "<|START_ACTION|>[\n" + ",\n".join(texts) + "\n]<|END_ACTION|>"


def deepseek_v3(calls: Calls) -> str:
    texts = [
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{f}\n```json\n{dump(a)}\n```<｜tool▁call▁end｜>" for f, a in calls
    ]
    return "<｜tool▁calls▁begin｜>" + "\n".join(texts) + "<｜tool▁calls▁end｜>"


def deepseek_v31(calls: Calls) -> str:
    texts = [f"<｜tool▁call▁begin｜>{f}<｜tool▁sep｜>{dump(a)}<｜tool▁call▁end｜>" for f, a in calls]
    return "<｜tool▁calls▁begin｜>" + "".join(texts) + "<｜tool▁calls▁end｜>"


def kimi(calls: Calls) -> str:
    texts = [
        f"<|tool_call_begin|>functions.{f}:{at}<|tool_call_argument_begin|>{dump(a)}<|tool_call_end|>"
        for at, (f, a) in enumerate(calls)
    ]
    return "<|tool_calls_section_begin|>" + "".join(texts) + "<|tool_calls_section_end|>"


def plain(value: Any) -> str:
    return value if isinstance(value, str) else dump(value)


def coder(start: str, end: str) -> Callable[[Calls], str]:
    def write(calls: Calls) -> str:
        texts = []
        for f, a in calls:
            parameters = "".join(f"<parameter={key}>\n{plain(value)}\n</parameter>\n" for key, value in a.items())
            texts.append(f"{start}\n<function={f}>\n{parameters}</function>\n{end}")
        return "\n".join(texts)

    return write


def glm(newline: str) -> Callable[[Calls], str]:
    def write(calls: Calls) -> str:
        texts = []
        for f, a in calls:
            pairs = "".join(
                f"<arg_key>{key}</arg_key>{newline}<arg_value>{plain(value)}</arg_value>{newline}"
                for key, value in a.items()
            )
            texts.append(f"<tool_call>{f}{newline}{pairs}</tool_call>")
        return newline.join(texts)

    return write


def invoke(section: str, prefix: str = "") -> Callable[[Calls], str]:
    def write(calls: Calls) -> str:
        texts = []
        for f, a in calls:
            parameters = "".join(
                f'<{prefix}parameter name="{key}">{plain(value)}</{prefix}parameter>\n' for key, value in a.items()
            )
            texts.append(f'<{prefix}invoke name="{f}">\n{parameters}</{prefix}invoke>\n')
        return f"<{section}>\n{''.join(texts)}</{section}>"

    return write


def dsml(section: str) -> Callable[[Calls], str]:
    mark = "｜DSML｜"

    def write(calls: Calls) -> str:
        texts = []
        for f, a in calls:
            parameters = "".join(
                f'<{mark}parameter name="{key}" string="{"true" if isinstance(value, str) else "false"}">'
                f"{plain(value)}</{mark}parameter>\n"
                for key, value in a.items()
            )
            texts.append(f'<{mark}invoke name="{f}">\n{parameters}</{mark}invoke>\n')
        return f"<{mark}{section}>\n{''.join(texts)}</{mark}{section}>"

    return write


def kimi_k3(calls: Calls) -> str:
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}
    texts = []
    for at, (f, a) in enumerate(calls, start=1):
        arguments = "".join(
            f'<|open|>argument key="{key}" type="{kinds.get(type(value), "null")}"<|sep|>{plain(value)}'
            "<|close|>argument<|sep|>"
            for key, value in a.items()
        )
        texts.append(f'<|open|>call tool="{f}" index="{at}"<|sep|>{arguments}<|close|>call<|sep|>')
    return f"<|open|>tools<|sep|>{''.join(texts)}<|close|>tools<|sep|>"


def minicpm(calls: Calls) -> str:
    return "\n".join(
        f'<function name="{f}">'
        + "".join(f'<param name="{key}">{plain(value)}</param>' for key, value in a.items())
        + "</function>"
        for f, a in calls
    )


def step3(calls: Calls) -> str:
    texts = []
    for f, a in calls:
        parameters = "".join(
            f'<steptml:parameter name="{key}">{plain(value)}</steptml:parameter>' for key, value in a.items()
        )
        texts.append(
            f'<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="{f}">{parameters}'
            "</steptml:invoke><｜tool_call_end｜>"
        )
    return "<｜tool_calls_begin｜>" + "\n".join(texts) + "<｜tool_calls_end｜>"


def python_call(f: str, a: dict[str, Any]) -> str:
    return f"{f}({', '.join(f'{key}={value!r}' for key, value in a.items())})"


def python_list(start: str = "", end: str = "") -> Callable[[Calls], str]:
    return lambda calls: f"{start}[{', '.join(python_call(f, a) for f, a in calls)}]{end}"


def olmo(calls: Calls) -> str:
    return "<function_calls>" + "\n".join(python_call(f, a) for f, a in calls) + "</function_calls>"


def gemma(start: str, end: str, quote: str) -> Callable[[Calls], str]:
    def value(it: Any) -> str:
        if isinstance(it, str):
            return f"{quote}{it}{quote}"
        if isinstance(it, dict):
            return "{" + ",".join(f"{key}:{value(each)}" for key, each in it.items()) + "}"
        if isinstance(it, list):
            return "[" + ",".join(map(value, it)) + "]"
        return dump(it)

    return lambda calls: "".join(f"{start}call:{f}{value(a)}{end}" for f, a in calls)


def harmony(calls: Calls) -> str:
    return "".join(
        f"{'<|start|>assistant' if at else ''}<|channel|>commentary to=functions.{f} <|constrain|>json<|message|>"
        f"{dump(a)}<|call|>"
        for at, (f, a) in enumerate(calls)
    )


WRITERS: dict[str, Callable[[Calls], str]] = {
    "hermes": each("<tool_call>", "</tool_call>"),
    "longcat": each("<longcat_tool_call>", "</longcat_tool_call>"),
    "mistral": mistral,
    "mistral (older)": array("[TOOL_CALLS] "),
    "llama3_json": llama,
    "llama3_json (marked)": lambda calls: "<|python_tag|>" + llama(calls),
    "granite": array("<|tool_call|>"),
    "granite (3.1)": array("<tool_call>"),
    "granite-20b-fc": each("<function_call> ", ""),
    "internlm": internlm,
    "jamba": lambda calls: f"<tool_calls>[\n  {', '.join(objects(calls))}\n]</tool_calls>",
    "phi4_mini_json": array("functools", arguments="arguments"),
    "xlam": array(""),
    "xlam (fenced)": lambda calls: f"```json\n[{', '.join(objects(calls))}]\n```",
    "apertus": apertus,
    "cohere_command3": command,
    "gigachat3": each("<|function_call|>", ""),
    "deepseek_v3": deepseek_v3,
    "deepseek_v31": deepseek_v31,
    "kimi_k2": kimi,
    "qwen3_coder": coder("<tool_call>", "</tool_call>"),
    "seed_oss": coder("<seed:tool_call>", "</seed:tool_call>"),
    "glm45": glm("\n"),
    "glm47": glm(""),
    "deepseek_v32": dsml("function_calls"),
    "deepseek_v4": dsml("tool_calls"),
    "minimax_m2": invoke("minimax:tool_call"),
    "dots": invoke("dots_function_call"),
    "kimi_k3": kimi_k3,
    "minicpm5": minicpm,
    "step3": step3,
    "pythonic": python_list(),
    "llama4_pythonic": python_list("<|python_start|>", "<|python_end|>"),
    "olmo3": olmo,
    "lfm2": python_list("<|tool_call_start|>", "<|tool_call_end|>"),
    "functiongemma": gemma("<start_function_call>", "<end_function_call>", "<escape>"),
    "gemma4": gemma("<|tool_call>", "<tool_call|>", '<|"|>'),
    "openai": harmony,
}

SAME = {
    "qwen3_json": "hermes",
    "granite4": "hermes",
    "ernie45": "hermes",
    "llama4_json": "llama3_json",
    "hunyuan_a13b": "jamba",
    "cohere_command4": "cohere_command3",
    "qwen3_xml": "qwen3_coder",
    "mimo": "qwen3_coder",
    "step3p5": "qwen3_coder",
    "ling3": "glm45",
}
"""Names that mean a format which has its writer under another name."""

MAY_BE_FOLLOWED = frozenset(WRITERS) - {"openai"}
MAY_BE_PRECEDED = frozenset(WRITERS) - {"openai", "xlam", "llama3_json", "pythonic"}
"""Formats that let text stand before calls. Harmony puts text into messages of its own."""


def can_say(writer: str, calls: Calls) -> bool:
    """Tags cannot hold their own marks; Gemma's bare keys hold no punctuation."""
    marks = {
        "qwen3_coder": ["</parameter>", "<parameter=", "</function>"],
        "seed_oss": ["</parameter>", "<parameter=", "</function>"],
        "glm45": ["</arg_value>"],
        "glm47": ["</arg_value>"],
        "openai": ["<|"],
        "kimi_k3": ["<|close|>argument<|sep|>"],
        "functiongemma": ["<escape>"],
        "gemma4": ['<|"|>'],
    }.get(writer, ["</param", "</｜DSML｜param", "</steptml:param"])
    return not any(mark in dump(calls) for mark in marks)


PARALLEL_START: Calls = [("f", {"city": "Rome", "days": 3})]
