"""Every tool format by name: the engine that reads it and the data that makes it this format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from specserve.handlers.chat.answer_pieces import AnswerParser, AnswerParserFactory
from specserve.handlers.chat.conversation import Tool
from specserve.handlers.chat.tool_formats.gemma_calls import GemmaCallFormat, GemmaCallParser
from specserve.handlers.chat.tool_formats.harmony import HarmonyParser
from specserve.handlers.chat.tool_formats.json_calls import Header, JsonCallFormat, JsonCallParser
from specserve.handlers.chat.tool_formats.parameter_tags import ANY, TEXT, ParameterTagFormat, ParameterTagParser
from specserve.handlers.chat.tool_formats.python_calls import PythonCallFormat, PythonCallParser


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """`parser` makes the parser for one answer. `families` and `example` are for people."""

    name: str
    families: str
    example: str
    parser: AnswerParserFactory


def json_format(name: str, families: str, example: str, form: JsonCallFormat) -> ToolFormat:
    def parser(tools: Sequence[Tool]) -> AnswerParser:
        return JsonCallParser(form)

    return ToolFormat(name, families, example, parser)


def tag_format(name: str, families: str, example: str, form: ParameterTagFormat) -> ToolFormat:
    return ToolFormat(name, families, example, partial(ParameterTagParser, form))


def python_format(name: str, families: str, example: str, form: PythonCallFormat) -> ToolFormat:
    def parser(tools: Sequence[Tool]) -> AnswerParser:
        return PythonCallParser(form)

    return ToolFormat(name, families, example, parser)


def gemma_format(name: str, families: str, example: str, form: GemmaCallFormat) -> ToolFormat:
    def parser(tools: Sequence[Tool]) -> AnswerParser:
        return GemmaCallParser(form)

    return ToolFormat(name, families, example, parser)


def harmony(tools: Sequence[Tool]) -> AnswerParser:
    return HarmonyParser(takes_calls=bool(tools))


HERMES = JsonCallFormat(sections={"<tool_call>": "</tool_call>"})
LLAMA = JsonCallFormat(sections={"<|python_tag|>": ""}, bare="{", separators=(";", ","))
TOOL_CALLS = JsonCallFormat(sections={"<tool_calls>": "</tool_calls>"})
COMMAND = JsonCallFormat(
    sections={"<|START_ACTION|>": "<|END_ACTION|>"},
    name_keys=("tool_name", "name"),
    argument_keys=("parameters", "arguments"),
)
QWEN_CODER = ParameterTagFormat(
    sections={"<tool_call>": "</tool_call>"},
    call_start="<function=",
    name_end=">",
    call_end="</function>",
    parameter_start="<parameter=",
    key_ends={">": None},
    parameter_end="</parameter>",
    trims_newline=True,
    forgets_ends=True,
)
GLM = ParameterTagFormat(
    sections={"<tool_call>": "</tool_call>"},
    call_start="",
    name_end="",
    call_end="",
    parameter_start="<arg_key>",
    key_ends={"</arg_key>": None},
    value_start="<arg_value>",
    parameter_end="</arg_value>",
)


def invoke(section: str) -> ParameterTagFormat:
    """`<invoke name="f"><parameter name="k">v</parameter></invoke>` within a section."""
    return ParameterTagFormat(
        sections={f"<{section}>": f"</{section}>"},
        call_start='<invoke name="',
        name_end='">',
        call_end="</invoke>",
        parameter_start='<parameter name="',
        key_ends={'">': None},
        parameter_end="</parameter>",
    )


def dsml(section: str) -> ParameterTagFormat:
    return ParameterTagFormat(
        sections={f"<｜DSML｜{section}>": f"</｜DSML｜{section}>"},
        call_start='<｜DSML｜invoke name="',
        name_end='">',
        call_end="</｜DSML｜invoke>",
        parameter_start='<｜DSML｜parameter name="',
        key_ends={'" string="true">': TEXT, '" string="false">': ANY},
        parameter_end="</｜DSML｜parameter>",
    )


FORMATS = (
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
    tag_format(
        "qwen3_coder",
        "Qwen3-Coder, Qwen 3.5, Nemotron 3",
        "<tool_call><function=f><parameter=a>1</parameter></function></tool_call>",
        QWEN_CODER,
    ),
    tag_format(
        "qwen3_xml",
        "Qwen3-Coder, under another name",
        "<tool_call><function=f><parameter=a>1</parameter></function></tool_call>",
        QWEN_CODER,
    ),
    tag_format("mimo", "MiMo", "<tool_call><function=f><parameter=a>1</parameter></function></tool_call>", QWEN_CODER),
    tag_format(
        "step3p5", "Step-3.5", "<tool_call><function=f><parameter=a>1</parameter></function></tool_call>", QWEN_CODER
    ),
    tag_format(
        "seed_oss",
        "Seed-OSS",
        "<seed:tool_call><function=f><parameter=a>1</parameter></function></seed:tool_call>",
        ParameterTagFormat(
            sections={"<seed:tool_call>": "</seed:tool_call>"},
            call_start="<function=",
            name_end=">",
            call_end="</function>",
            parameter_start="<parameter=",
            key_ends={">": None},
            parameter_end="</parameter>",
            trims_newline=True,
            forgets_ends=True,
        ),
    ),
    tag_format(
        "glm45",
        "GLM-4.5 and 4.6",
        "<tool_call>f\\n<arg_key>a</arg_key>\\n<arg_value>1</arg_value>\\n</tool_call>",
        GLM,
    ),
    tag_format("glm47", "GLM-4.7 and 5", "<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>", GLM),
    tag_format("ling3", "Ling 3", "<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>", GLM),
    tag_format(
        "deepseek_v32",
        "DeepSeek V3.2",
        '<｜DSML｜function_calls><｜DSML｜invoke name="f"><｜DSML｜parameter name="a" string="false">1'
        "</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜function_calls>",
        dsml("function_calls"),
    ),
    tag_format(
        "deepseek_v4",
        "DeepSeek V4",
        '<｜DSML｜tool_calls><｜DSML｜invoke name="f"><｜DSML｜parameter name="a" string="false">1'
        "</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜tool_calls>",
        dsml("tool_calls"),
    ),
    tag_format(
        "minimax_m2",
        "MiniMax-M2",
        '<minimax:tool_call><invoke name="f"><parameter name="a">1</parameter></invoke></minimax:tool_call>',
        invoke("minimax:tool_call"),
    ),
    tag_format(
        "dots",
        "dots",
        '<dots_function_call><invoke name="f"><parameter name="a">1</parameter></invoke></dots_function_call>',
        invoke("dots_function_call"),
    ),
    tag_format(
        "minicpm5",
        "MiniCPM 5",
        '<function name="f"><param name="a">1</param></function>',
        ParameterTagFormat(
            call_start='<function name="',
            name_end='">',
            call_end="</function>",
            parameter_start='<param name="',
            key_ends={'">': None},
            parameter_end="</param>",
        ),
    ),
    tag_format(
        "step3",
        "Step-3",
        '<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="f">'
        '<steptml:parameter name="a">1</steptml:parameter></steptml:invoke><｜tool_call_end｜><｜tool_calls_end｜>',
        ParameterTagFormat(
            sections={"<｜tool_calls_begin｜>": "<｜tool_calls_end｜>"},
            call_prefix="<｜tool_call_begin｜>function<｜tool_sep｜>",
            call_start='<steptml:invoke name="',
            name_end='">',
            call_end="</steptml:invoke>",
            call_suffix="<｜tool_call_end｜>",
            parameter_start='<steptml:parameter name="',
            key_ends={'">': None},
            parameter_end="</steptml:parameter>",
        ),
    ),
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
    ),
)

TOOL_FORMATS: Mapping[str, ToolFormat] = {form.name: form for form in FORMATS}
