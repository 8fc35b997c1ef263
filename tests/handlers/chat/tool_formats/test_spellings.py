"""Single answers, written down by hand: what each format's description says they mean, and what broken ones become."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from taking_apart import check_every_cut, tool_parser, whole

F = '{"name": "f", "arguments": {"a":1}}'
G = '{"name": "g", "arguments": {"b": "é"}}'
FG = [("f", {"a": 1}), ("g", {"b": "é"})]
ONE = [("f", {"a": 1})]

SPELLINGS: list[tuple[str, str, list[tuple[str, Any]], str]] = [
    # Around calls.
    ("hermes", f"pre <tool_call>\n{F}\n</tool_call> mid <tool_call>{G}</tool_call> post", FG, "pre  mid  post"),
    ("granite", f"text <|tool_call|>[{F}, {G}] tail", FG, "text  tail"),
    ("granite-20b-fc", f"pre <function_call> {F}\n<function_call>{G}", FG, "pre"),
    ("granite4", f"pre <tool_call>\n{F}\n</tool_call> post", ONE, "pre  post"),
    ("internlm", f"pre<|action_start|><|plugin|>{F}<|action_end|>post", ONE, "prepost"),
    ("jamba", f" <tool_calls>[{F}, {G}]</tool_calls>", FG, ""),
    ("mistral", f"pre [TOOL_CALLS] [{F},{G}]", FG, "pre"),
    ("glm45", "hi<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>", ONE, "hi"),
    ("lfm2", "<|tool_call_start|>[f(a=1)]<|tool_call_end|>ok", ONE, "ok"),
    ("pythonic", "[f(a=1)] hi", ONE, "hi"),
    ("llama3_json", f"{F} done", ONE, "done"),
    # Ways to write a call.
    ("hermes", f"<tool_call>{F}", ONE, ""),
    ("hermes", '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', ONE, ""),
    ("hermes", '<tool_call>{"name": "f", "id": [1, {}], "arguments": {"a": 1}, "more": "}"}</tool_call>', ONE, ""),
    ("hermes", '<tool_call>{"name": "f"}</tool_call>', [("f", {})], ""),
    ("hermes", '<tool_call>{"name": "f", "arguments": null}</tool_call>', [("f", {})], ""),
    ("hermes", '<tool_call>{"name": "f", "arguments": ""}</tool_call>', [("f", {})], ""),
    ("hermes", f"<tool_call>[{F}, {G}]</tool_call>", FG, ""),
    ("hermes", f"<tool_call>{F}}}</tool_call>", ONE, "}"),
    ("hermes", f"<tool_call>{F}</tool_call></tool_call>", ONE, "</tool_call>"),
    ("mistral", '[TOOL_CALLS]f{"a": 1}[TOOL_CALLS]g[ARGS]{"b": "é"}', FG, ""),
    ("mistral", f"[TOOL_CALLS]{F}", ONE, ""),
    ("llama3_json", f"<|python_tag|>{F}; {G}", FG, ""),
    ("llama3_json", '{"type": "function", "name": "f", "parameters": {"a": 1}}', ONE, ""),
    ("deepseek_v3", '<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{"a": 1}\n```<｜tool▁call▁end｜>', ONE, ""),
    (
        "kimi_k2",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:7<|tool_call_argument_begin|><|tool_call_end|>"
        "<|tool_calls_section_end|>",
        [("f", {})],
        "",
    ),
    ("pythonic", "[f(), h.k(z=None, y=[1,{'q':True}],)]", [("f", {}), ("h.k", {"z": None, "y": [1, {"q": True}]})], ""),
    (
        "pythonic",
        "[f(a=null, b=true, c=-1.5, d=+2, e=.5)]",
        [("f", {"a": None, "b": True, "c": -1.5, "d": 2, "e": 0.5})],
        "",
    ),
    (
        "pythonic",
        r"""[f(a='it\'s \x41\u00e9\U0001F642 \q', b="\ud83d\ude42")]""",
        [("f", {"a": "it's Aé🙂 \\q", "b": "🙂"})],
        "",
    ),
    ("olmo3", "<function_calls>\nf(a=1)\ng(b='é')\n</function_calls>", FG, ""),
    (
        "qwen3_coder",
        "hi <tool_call>\n<function=f>\n<parameter=days>\n1\n</parameter>\n<parameter=text>\n 2\n\n</parameter>\n"
        "</function>\n</tool_call> post",
        [("f", {"days": 1, "text": " 2\n"})],
        "hi  post",
    ),
    ("qwen3_coder", "<function=f>\n<parameter=a>\n1\n</parameter>\n</function>", ONE, ""),
    (
        "qwen3_coder",
        "<tool_call><function=f><parameter=a>1<parameter=b>x</function></tool_call>",
        [("f", {"a": 1, "b": "x"})],
        "",
    ),
    ("qwen3_coder", "<tool_call><function=f><parameter=a>1</parameter>", ONE, ""),
    (
        "deepseek_v32",
        '<｜DSML｜function_calls><｜DSML｜invoke name="f"><｜DSML｜parameter name="z" string="true">3'
        "</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜function_calls>",
        [("f", {"z": "3"})],
        "",
    ),
    ("openai", '<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{"a": 1}<|call|>', ONE, ""),
    (
        "openai",
        "<|channel|>commentary<|message|>I look it up.<|end|><|start|>assistant<|channel|>commentary "
        'to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>',
        ONE,
        "I look it up.",
    ),
    # What is no call.
    ("hermes", "x <tool_call>{bad}</tool_call> y", [], "x <tool_call>{bad}</tool_call> y"),
    (
        "hermes",
        '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
        [],
        '<tool_call>{"name": 3, "arguments": {}}</tool_call>',
    ),
    ("hermes", f"<tool_call> is how <tool_call>{F}</tool_call>", ONE, "<tool_call> is how"),
    ("hermes", '<tool_call>{"name": "f', [], '<tool_call>{"name": "f'),
    ("hermes", "a <tool_ca", [], "a <tool_ca"),
    ("llama3_json", '{"foo":1}', [], '{"foo":1}'),
    ("llama3_json", '{"name": "Ada", "age": 36}', [], '{"name": "Ada", "age": 36}'),
    ("llama3_json", f"Sure: {F}", [], f"Sure: {F}"),
    ("llama3_json", f"{F}; and so on", ONE, "; and so on"),
    (
        "internlm",
        "<|action_start|><|interpreter|>1+1<|action_end|>",
        [],
        "<|action_start|><|interpreter|>1+1<|action_end|>",
    ),
    ("pythonic", "[f(1)]", [], "[f(1)]"),
    ("pythonic", "f(a=1)", [], "f(a=1)"),
    ("pythonic", "hi [f(a=1)]", [], "hi [f(a=1)]"),
    ("pythonic", "[see](https://example.org)", [], "[see](https://example.org)"),
    ("phi4_mini_json", "import functools\nprint(functools.cache)", [], "import functools\nprint(functools.cache)"),
    ("qwen3_coder", "<function=f> and no more", [], "<function=f> and no more"),
    ("openai", "Just text.", [], "Just text."),
    ("openai", "<|channel|>final without a text", [], "<|channel|>final without a text"),
]


@pytest.mark.parametrize(("name", "text", "calls", "content"), SPELLINGS)
def test_an_answer_means_what_it_says(name: str, text: str, calls: list[tuple[str, Any]], content: str) -> None:
    answer = whole(partial(tool_parser, name), text)
    assert [(call.name, json.loads(call.arguments)) for call in answer.calls] == calls
    assert answer.content == content
    check_every_cut(partial(tool_parser, name), text, thrice=len(text) < 60)


RAW: list[tuple[str, str, str, bool]] = [
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a" :1,  "b":"x}y"}}</tool_call>', '{"a" :1,  "b":"x}y"}', True),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": 1,}}</tool_call>', '{"a": 1,}', True),
    (
        "hermes",
        '<tool_call>{"name": "f", "arguments": "{\\"a\\":\\u00e9 \\ud83d\\ude42}"}</tool_call>',
        '{"a":é 🙂}',
        True,
    ),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": 1', '{"a": 1', False),
    ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": "as it is"}]', "as it is", True),
    ("openai", "<|channel|>commentary to=functions.f<|message|>{not json<|call|>", "{not json", True),
    ("pythonic", "[f(a=1, b=x)]", '{"a": 1, "b": ', False),
    ("functiongemma", '<start_function_call>call:f{a:<escape>x\n"y"', '{"a": "x\\n\\"y\\"', False),
    ("qwen3_coder", "<function=f><parameter=city>Ro", '{"city": "Ro', False),
]


@pytest.mark.parametrize(("name", "text", "arguments", "is_complete"), RAW)
def test_arguments_are_the_models_own_text(name: str, text: str, arguments: str, is_complete: bool) -> None:
    answer = whole(partial(tool_parser, name), text, is_cut=True)
    assert [(call.arguments, call.is_complete) for call in answer.calls] == [(arguments, is_complete)]
    check_every_cut(partial(tool_parser, name), text, is_cut=True)


def test_a_call_keeps_the_id_that_the_model_gave_it() -> None:
    text = (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
        "<|tool_call_begin|>functions.g:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"
    )
    calls = whole(partial(tool_parser, "kimi_k2"), text).calls
    assert [(call.name, call.call_id) for call in calls] == [("f", "functions.f:0"), ("g", "functions.g:1")]
    calls = whole(partial(tool_parser, "mistral"), "[TOOL_CALLS]f[CALL_ID]abcDEF123[ARGS]{}").calls
    assert [(call.name, call.call_id) for call in calls] == [("f", "abcDEF123")]


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        ("days", "007", 7),
        ("days", "3.5", 3.5),
        ("days", "three", "three"),
        ("ratio", "2", 2),
        ("ratio", "2.50", 2.5),
        ("ratio", "1e400", "1e400"),
        ("ratio", "NaN", "NaN"),
        ("wet", "True", True),
        ("wet", "0", False),
        ("nothing", "NULL", None),
        ("nested", '{"a": [1]}', {"a": [1]}),
        ("nested", "[1]", [1]),
        ("list", "[1e999]", "[1e999]"),
        ("city", "12", "12"),
        ("city", "null", "null"),
        ("unknown", "12", 12),
        ("unknown", "a word", "a word"),
        ("unknown", '"quoted"', "quoted"),
        ("days", "9" * 5000, "9" * 5000),
        ("nested", "[" * 50_000, "[" * 50_000),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_parameter_without_quotes_is_what_its_schema_says(parameter: str, text: str, value: object) -> None:
    written = f"<tool_call>f<arg_key>{parameter}</arg_key><arg_value>{text}</arg_value></tool_call>"
    [call] = whole(partial(tool_parser, "glm45"), written).calls
    assert json.loads(call.arguments) == {parameter: value}
