"""The formats with a tag around each parameter: one line of data for every name."""

from __future__ import annotations

from specserve.handlers.chat.tool_formats.parameter_tags import ANY, TEXT, ParameterTagFormat
from specserve.handlers.chat.tool_formats.parameter_types import ORDER
from specserve.handlers.chat.tool_formats.tool_format import ToolFormat, tag_format

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


KIMI_K3 = ParameterTagFormat(
    sections={"<|open|>tools<|sep|>": "<|close|>tools<|sep|>"},
    call_start='<|open|>call tool="',
    name_end='"',
    attributes_end="<|sep|>",
    call_end="<|close|>call<|sep|>",
    parameter_start='<|open|>argument key="',
    key_ends={f'" type="{kind}"<|sep|>': frozenset({kind}) for kind in ORDER},
    parameter_end="<|close|>argument<|sep|>",
)
TAG_FAMILIES: tuple[ToolFormat, ...] = (
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
        "kimi_k3",
        "Kimi K3",
        '<|open|>tools<|sep|><|open|>call tool="f" index="1"<|sep|><|open|>argument key="a" type="integer"<|sep|>1'
        "<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>",
        KIMI_K3,
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
)
