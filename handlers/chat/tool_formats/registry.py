"""Every tool format by name: the engine that reads it and the data that makes it this format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from specserve.handlers.chat.answer_pieces import AnswerParser
from specserve.handlers.chat.call_grammars.pieces import CallGrammar, WrittenTool
from specserve.handlers.chat.conversation import Tool
from specserve.handlers.chat.tool_formats.gemma_calls import GemmaCallFormat
from specserve.handlers.chat.tool_formats.harmony import HarmonyParser
from specserve.handlers.chat.tool_formats.json_families import JSON_FAMILIES
from specserve.handlers.chat.tool_formats.python_calls import PythonCallFormat
from specserve.handlers.chat.tool_formats.tag_families import TAG_FAMILIES
from specserve.handlers.chat.tool_formats.tool_format import CallForm, ToolFormat, gemma_format, python_format


def harmony(tools: Sequence[Tool]) -> AnswerParser:
    return HarmonyParser(takes_calls=bool(tools))


def no_calls(tools: Sequence[WrittenTool], *, only_one: bool) -> CallGrammar:
    """`call_grammars.harmony` writes the whole answer, of which a call is a part."""
    return CallGrammar()


FORMATS = (
    *JSON_FAMILIES,
    *TAG_FAMILIES,
    python_format("pythonic", "Llama 3.2 small models, ToolACE", "[f(a=1), g()]", PythonCallFormat(bare=True)),
    python_format(
        "llama4_pythonic",
        "Llama 4",
        "<|python_start|>[f(a=1)]<|python_end|>",
        PythonCallFormat(bare=True, sections={"<|python_start|>": "<|python_end|>"}),
    ),
    python_format(
        "olmo3",
        "OLMo 3",
        "<function_calls>f(a=1)</function_calls>",
        PythonCallFormat(sections={"<function_calls>": "</function_calls>"}, needs_brackets=False),
    ),
    python_format(
        "lfm2",
        "LFM2",
        "<|tool_call_start|>[f(a=1)]<|tool_call_end|>",
        PythonCallFormat(sections={"<|tool_call_start|>": "<|tool_call_end|>"}),
    ),
    gemma_format(
        "functiongemma",
        "FunctionGemma",
        "<start_function_call>call:f{a:1}<end_function_call>",
        GemmaCallFormat(start="<start_function_call>", end="<end_function_call>", quote="<escape>"),
    ),
    gemma_format(
        "gemma4",
        "Gemma 4",
        "<|tool_call>call:f{a:1}<tool_call|>",
        GemmaCallFormat(start="<|tool_call>", end="<tool_call|>", quote='<|"|>'),
    ),
    ToolFormat(
        "openai",
        "gpt-oss",
        '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>',
        harmony,
        CallForm(no_calls),
    ),
)

TOOL_FORMATS: Mapping[str, ToolFormat] = {form.name: form for form in FORMATS}
