"""Which formats a server reads, and reasoning and calls in one answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from specserve.handlers.chat.answer_formats import FormatChoice
from specserve.handlers.chat.answer_pieces import FoldedAnswer, FoldedCall, fold_pieces
from specserve.handlers.chat.format_detection import REASONING_MARKS, TOOL_MARKS
from specserve.handlers.chat.reasoning_formats.registry import REASONING_FORMATS
from specserve.handlers.chat.tool_formats.plugins import load_plugin
from specserve.handlers.chat.tool_formats.registry import TOOL_FORMATS
from specserve.handlers.demo import checkpoint_path
from specserve.handlers.flags import UsageError
from specserve.handlers.settings import ServerSettings

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"city": {"type": "string"}}}}}]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
CALLS = "{% for call in m.tool_calls %}"
TEMPLATES: dict[str, tuple[str, str | None, str | None]] = {
    "plain": (CHATML, None, None),
    "hermes": (CALLS + "<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}", "hermes", None),
    "qwen": (
        CALLS + "<tool_call>{{ call | tojson }}</tool_call>{% endfor %}"
        "{% if not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}",
        "hermes",
        "qwen3",
    ),
    "qwen coder": (
        CALLS + "<tool_call>\n<function={{ call.name }}>\n{% for k, v in call.arguments | items %}"
        "<parameter={{ k }}>\n{{ v }}\n</parameter>\n{% endfor %}</function>\n</tool_call>{% endfor %}",
        "qwen3_coder",
        None,
    ),
    "mistral": (
        "{{ bos_token }}[INST]{{ m.content }}[/INST]" + CALLS + "[TOOL_CALLS]{{ call }}{% endfor %}",
        "mistral",
        None,
    ),
    "magistral": (
        "[SYSTEM_PROMPT]Think in [THINK] and [/THINK].[/SYSTEM_PROMPT][TOOL_CALLS][ARGS]",
        "mistral",
        "mistral",
    ),
    "llama": (
        '<|start_header_id|>system<|end_header_id|>Answer {"name": function, "parameters": {…}}.<|eot_id|>',
        "llama3_json",
        None,
    ),
    "llama 3.2 small": ("<|start_header_id|>You write [func_name1(name1=value1)] to call.<|eot_id|>", "pythonic", None),
    "llama 4": (
        "<|header_start|>assistant<|header_end|><|python_start|>{{ m.content }}<|python_end|>",
        "llama4_pythonic",
        None,
    ),
    "granite 3": (
        "<|start_of_role|>assistant<|end_of_role|><|tool_call|>{{ m.tool_calls }}<|end_of_text|>",
        "granite",
        None,
    ),
    "granite 4": ("<|start_of_role|>assistant<|end_of_role|><tool_call>{{ call }}</tool_call>", "granite4", None),
    "granite reasoning": ("Write 'Here is my thought process:' and then 'Here is my response:'", None, "granite"),
    "granite 20b": ("Write <function_call> before each call.", "granite-20b-fc", None),
    "internlm": ("<|action_start|><|plugin|>{{ call }}<|action_end|>", "internlm", None),
    "jamba": ("<tool_calls>[{{ calls }}]</tool_calls>", "jamba", None),
    "hunyuan": (
        "<think>{{ t }}</think><answer>{{ a }}</answer><tool_calls>{{ c }}</tool_calls>",
        "hunyuan_a13b",
        "hunyuan_a13b",
    ),
    "deepseek v3": (
        "<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ n }}\n```json{{ a }}```",
        "deepseek_v3",
        None,
    ),
    "deepseek r1": ("<｜Assistant｜><think>\n{{ m.content.split('</think>')[-1] }}", None, "deepseek_r1"),
    "deepseek v3.1": (
        "{% if thinking %}<｜Assistant｜><think>{% else %}<｜Assistant｜></think>{% endif %}"
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{{ n }}<｜tool▁sep｜>{{ a }}",
        "deepseek_v31",
        "deepseek_v3",
    ),
    "deepseek v3.2": ('<｜DSML｜function_calls><｜DSML｜invoke name="f"> and </think>', "deepseek_v32", "deepseek_v3"),
    "kimi": ("<|tool_calls_section_begin|><|tool_call_begin|>{{ call.id }} <think></think>", "kimi_k2", "kimi_k2"),
    "glm": (
        "<tool_call>{{ n }}\n<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v }}</arg_value></tool_call><think></think>",
        "glm45",
        "glm45",
    ),
    "minimax": (
        '<minimax:tool_call><invoke name="{{ n }}"></invoke></minimax:tool_call><think></think>',
        "minimax_m2",
        "minimax_m2",
    ),
    "seed": (
        "<seed:tool_call><function={{ n }}><parameter={{ k }}></seed:tool_call><seed:think>",
        "seed_oss",
        "seed_oss",
    ),
    "step": ('<｜tool_calls_begin｜><steptml:invoke name="{{ n }}"></think>', "step3", "step3"),
    "gpt-oss": ("<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|end|>", "openai", "openai_gptoss"),
    "phi": ("Call with functools[{{ call }}]<|end|>", "phi4_mini_json", None),
    "olmo": ("<function_calls>{{ call }}</function_calls><think></think>", "olmo3", "olmo3"),
    "lfm": ("<|tool_call_start|>[{{ call }}]<|tool_call_end|>", "lfm2", None),
    "gemma functions": ("<start_function_call>call:{{ n }}{<escape>}<end_function_call>", "functiongemma", None),
    "gemma 4": ("<|channel>thought\n{{ t }}<channel|><|tool_call>call:{{ n }}{}<tool_call|>", "gemma4", "gemma4"),
    "command": (
        "<|START_THINKING|>{{ t }}<|END_THINKING|><|START_ACTION|>[]<|END_ACTION|>",
        "cohere_command3",
        "cohere_command3",
    ),
    "ernie": ("</think><response>{{ a }}</response><tool_call>{{ c }}</tool_call>", "ernie45", "ernie45"),
    "apertus": ("<|tools_prefix|>[{{ c }}]<|tools_suffix|>", "apertus", None),
}


@pytest.mark.parametrize("family", TEMPLATES)
def test_the_template_tells_how_the_model_writes(family: str) -> None:
    template, tools, reasoning = TEMPLATES[family]
    formats = FormatChoice().for_template(template)
    assert (formats.tools and formats.tools.name) == tools
    assert (formats.reasoning and formats.reasoning.name) == reasoning


def test_the_demo_model_is_known() -> None:
    template = Path(checkpoint_path(), "chat_template.jinja").read_text(encoding="utf-8")
    formats = FormatChoice().for_template(template)
    assert formats.tools is not None
    assert formats.reasoning is not None
    assert (formats.tools.name, formats.reasoning.name) == ("hermes", "qwen3")


def test_every_detected_name_exists_and_no_line_hides_another() -> None:
    assert {name for _, name in TOOL_MARKS} <= set(TOOL_FORMATS)
    assert {name for _, name in REASONING_MARKS} <= set(REASONING_FORMATS)
    for table in (TOOL_MARKS, REASONING_MARKS):
        for at, (marks, name) in enumerate(table):
            template = " ".join(marks)
            first = next(found for found, (others, _) in enumerate(table) if all(mark in template for mark in others))
            assert first == at, (name, table[first])


def test_names_given_by_the_owner_win() -> None:
    formats = FormatChoice(tool_parser="mistral", reasoning_parser="none").for_template(TEMPLATES["qwen"][0])
    assert formats.tools is not None
    assert (formats.tools.name, formats.reasoning) == ("mistral", None)


@pytest.mark.parametrize("flag", ["tool_parser", "reasoning_parser"])
def test_an_unknown_name_is_told_with_the_known_ones(flag: str) -> None:
    with pytest.raises(UsageError) as caught:
        FormatChoice(**{flag: "mistrel"})
    assert "mistrel" in caught.value.cause
    assert "mistral" in caught.value.remedy


def read(template: str, text: str, tools: list[dict[str, object]], prompt: str = "", pieces: int = 1) -> FoldedAnswer:
    make = FormatChoice().for_template(template).parser(tools, prompt)
    assert make is not None
    parser = make()
    found = [piece for at in range(0, len(text), pieces) for piece in parser.feed(text[at : at + pieces])]
    return fold_pieces([*found, *parser.finish(is_cut=False)])


@pytest.mark.parametrize("pieces", [1, 2, 3, 5, 1000])
def test_a_thought_and_a_call_are_told_apart(pieces: int) -> None:
    call = '<tool_call>\n{"name": "f", "arguments": {"city": "</think>"}}\n</tool_call>'
    answer = read(TEMPLATES["qwen"][0], f"I call f.\n</think>\n\n{call}", TOOLS, "assistant\n<think>\n", pieces)
    assert answer == FoldedAnswer(
        reasoning="I call f.\n", calls=[FoldedCall("f", None, '{"city": "</think>"}', is_complete=True)]
    )


@pytest.mark.parametrize("pieces", [1, 4, 1000])
def test_calls_in_thoughts_are_thoughts(pieces: int) -> None:
    thought = 'maybe [TOOL_CALLS]f{"city": "Rome"} would do'
    answer = read(TEMPLATES["magistral"][0], f"[THINK]{thought}[/THINK]No.", TOOLS, "", pieces)
    assert answer == FoldedAnswer(reasoning=thought, content="No.")


@pytest.mark.parametrize("pieces", [1, 7, 1000])
def test_harmony_is_reasoning_call_and_content_in_one(pieces: int) -> None:
    text = (
        "<|channel|>analysis<|message|>Look it up.<|end|><|start|>assistant<|channel|>commentary to=functions.f "
        '<|constrain|>json<|message|>{"city":"Rome"}<|call|>'
    )
    template = TEMPLATES["gpt-oss"][0]
    assert read(template, text, TOOLS, "", pieces) == FoldedAnswer(
        reasoning="Look it up.", calls=[FoldedCall("f", None, '{"city":"Rome"}', is_complete=True)]
    )
    assert read(template, text, [], "", pieces) == FoldedAnswer(reasoning="Look it up.", content='{"city":"Rome"}')


def test_the_remark_names_what_is_read() -> None:
    assert FormatChoice().remark(TEMPLATES["qwen"][0]) == "tool calls as hermes, reasoning as qwen3"
    assert FormatChoice().remark(TEMPLATES["granite reasoning"][0]) == "reasoning as granite"
    assert FormatChoice().remark(CHATML) is None


def test_without_tools_nothing_looks_for_calls() -> None:
    assert FormatChoice().for_template(TEMPLATES["hermes"][0]).parser([], "") is None


# ---- plugins

NATIVE = """
from specserve.handlers.chat.answer_pieces import CallArguments, CallEnd, CallStart, Content

class ShoutParser:
    def __init__(self, tools):
        self.names = [tool["function"]["name"] for tool in tools]
        self.text = ""
    def feed(self, text):
        self.text += text
        return []
    def finish(self, *, is_cut):
        name = self.text.strip("!").lower()
        if name not in self.names:
            return [Content(self.text)]
        return [CallStart(name), CallArguments("{}"), CallEnd()]

TOOL_FORMATS = {"shout": ShoutParser}
"""

DECORATED = """
import json
from specserve.handlers.chat.tool_formats.plugins import (
    ExtractedToolCallInformation, FunctionCall, ToolCall, ToolParser, ToolParserManager
)

@ToolParserManager.register_module(["shout", "louder"])
class ShoutParser(ToolParser):
    def __init__(self, tokenizer):
        super().__init__(tokenizer)
    def extract_tool_calls(self, model_output, request):
        if not model_output.endswith("!"):
            raise ValueError("nobody shouts")
        name, _, rest = model_output.rstrip("!").partition(" ")
        call = ToolCall(function=FunctionCall(name=name.lower(), arguments=json.dumps({"city": rest})))
        return ExtractedToolCallInformation(tools_called=True, tool_calls=[call], content="heard")
"""


def plugin_choice(tmp_path: Path, source: str, name: str) -> FormatChoice:
    path = tmp_path / "plugin.py"
    path.write_text(source)
    return FormatChoice(tool_parser=name, plugins=load_plugin(str(path)))


def ask_plugin(choice: FormatChoice, *texts: str) -> FoldedAnswer:
    make = choice.for_template("").parser(TOOLS, "")
    assert make is not None
    parser = make()
    return fold_pieces([*(piece for text in texts for piece in parser.feed(text)), *parser.finish(is_cut=False)])


def test_a_plugin_brings_factories_of_parsers(tmp_path: Path) -> None:
    choice = plugin_choice(tmp_path, NATIVE, "shout")
    assert ask_plugin(choice, "F", "!!") == FoldedAnswer(calls=[FoldedCall("f", None, "{}", is_complete=True)])
    assert ask_plugin(choice, "fine") == FoldedAnswer(content="fine")


@pytest.mark.parametrize("name", ["shout", "louder"])
def test_a_plugin_may_register_classes_by_the_decorator(tmp_path: Path, name: str) -> None:
    choice = plugin_choice(tmp_path, DECORATED, name)
    answer = ask_plugin(choice, "F Ro", "me!")
    assert [(call.name, json.loads(call.arguments)) for call in answer.calls] == [("f", {"city": "Rome"})]
    assert answer.content == "heard"
    assert ask_plugin(choice, "quiet") == FoldedAnswer(content="quiet")


@pytest.mark.parametrize("source", ["1 +", "import nothing_of_this_name", "x = 1"])
def test_a_plugin_that_brings_nothing_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(UsageError, match=r"plugin\.py"):
        plugin_choice(tmp_path, source, "shout")


def test_flags_choose_and_switch_off(tmp_path: Path) -> None:
    path = tmp_path / "plugin.py"
    path.write_text(NATIVE)
    template = TEMPLATES["qwen"][0]
    plugged = ServerSettings(tool_call_parser="shout", tool_parser_plugin=str(path), reasoning_parser="granite")
    formats = FormatChoice.of(plugged).for_template(template)
    assert formats.tools is not None
    assert formats.reasoning is not None
    assert (formats.tools.name, formats.reasoning.name) == ("shout", "granite")
    formats = FormatChoice.of(ServerSettings(enable_auto_tool_choice=False)).for_template(template)
    assert formats.tools is None
    assert formats.reasoning is not None
