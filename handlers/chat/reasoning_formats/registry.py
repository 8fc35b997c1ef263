"""Every reasoning format by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from specserve.handlers.chat.answer_pieces import ReasoningReader
from specserve.handlers.chat.reasoning_formats.think import ThinkFormat


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """`think` is None where the tool format reads the reasoning too, or where only `parser`, a plugin's, knows how.

    `families` and `example` are for people.
    """

    name: str
    families: str
    example: str
    think: ThinkFormat | None
    parser: Callable[[], ReasoningReader] | None = None


THINK = ThinkFormat()
ALWAYS = ThinkFormat(always_thinks=True)
HYBRID = ThinkFormat(bare="content")
COMMAND = ThinkFormat(starts=("<|START_THINKING|>",), ends=("<|END_THINKING|>",), bare="content")
XML = "<think>why</think>yes"

FORMATS = (
    ReasoningFormat("deepseek_r1", "DeepSeek R1 and its distillations, QwQ", XML, ALWAYS),
    ReasoningFormat("qwen3", "Qwen 3 and 3.5", XML, ThinkFormat(also_ends=("<tool_call>",))),
    ReasoningFormat("deepseek_v3", "DeepSeek V3.1 and V3.2, which think on demand", XML, HYBRID),
    ReasoningFormat("deepseek_v4", "DeepSeek V4", XML, HYBRID),
    ReasoningFormat("holo2", "Holo 2", XML, THINK),
    ReasoningFormat("glm45", "GLM-4.5 and later", XML, THINK),
    ReasoningFormat("glm47", "GLM-4.7 and 5", XML, THINK),
    ReasoningFormat("ling3", "Ling 3", XML, THINK),
    ReasoningFormat("kimi_k2", "Kimi K2 Thinking", XML, ThinkFormat(also_ends=("<|tool_calls_section_begin|>",))),
    ReasoningFormat(
        "kimi_k3",
        "Kimi K3",
        "<|open|>think<|sep|>why<|close|>think<|sep|>yes",
        ThinkFormat(starts=("<|open|>think<|sep|>",), ends=("<|close|>think<|sep|>",)),
    ),
    ReasoningFormat("minimax_m2", "MiniMax-M2", "why</think>yes", ALWAYS),
    ReasoningFormat(
        "minimax_m2_append_think",
        "MiniMax-M2, reasoning kept in the content",
        "why</think>yes",
        ThinkFormat(keeps_marks=True),
    ),
    ReasoningFormat(
        "minimax_m3",
        "MiniMax-M3",
        "<mm:think>why</mm:think>yes",
        ThinkFormat(starts=("<mm:think>",), ends=("</mm:think>",)),
    ),
    ReasoningFormat(
        "mistral",
        "Magistral and later Mistral models",
        "[THINK]why[/THINK]yes",
        ThinkFormat(starts=("[THINK]", "<think>"), ends=("[/THINK]", "</think>"), bare="content"),
    ),
    ReasoningFormat(
        "granite",
        "Granite 3.2 and 3.3",
        "Here is my thought process: why Here is my response: yes",
        ThinkFormat(
            starts=("Here is my thought process:", "Here's my thought process:"),
            ends=("Here is my response:", "Here's my response:"),
            bare="content",
        ),
    ),
    ReasoningFormat(
        "gemma4",
        "Gemma 4",
        "<|channel>thought\\nwhy<channel|>yes",
        ThinkFormat(starts=("<|channel>thought\n",), ends=("<channel|>",), bare="content"),
    ),
    ReasoningFormat(
        "seed_oss",
        "Seed-OSS",
        "<seed:think>why</seed:think>yes",
        ThinkFormat(starts=("<seed:think>",), ends=("</seed:think>",)),
    ),
    ReasoningFormat(
        "hunyuan_a13b",
        "Hunyuan A13B",
        "<think>\\nwhy\\n</think>\\n<answer>\\nyes\\n</answer>",
        ThinkFormat(bare="content", answer=("<answer>", "</answer>"), trims=True),
    ),
    ReasoningFormat(
        "cohere_command3",
        "Command A Reasoning",
        "<|START_THINKING|>why<|END_THINKING|><|START_RESPONSE|>yes<|END_RESPONSE|>",
        ThinkFormat(
            starts=COMMAND.starts, ends=COMMAND.ends, bare="content", answer=("<|START_RESPONSE|>", "<|END_RESPONSE|>")
        ),
    ),
    ReasoningFormat(
        "cohere_command4",
        "later Command models",
        "<|START_THINKING|>why<|END_THINKING|><|START_TEXT|>yes<|END_TEXT|>",
        ThinkFormat(
            starts=COMMAND.starts, ends=COMMAND.ends, bare="content", answer=("<|START_TEXT|>", "<|END_TEXT|>")
        ),
    ),
    ReasoningFormat(
        "ernie45",
        "ERNIE 4.5 Thinking",
        "why</think><response>yes</response>",
        ThinkFormat(answer=("<response>", "</response>")),
    ),
    ReasoningFormat("step3", "Step-3", "why</think>yes", ALWAYS),
    ReasoningFormat("step3p5", "Step-3.5", XML, THINK),
    ReasoningFormat("mimo", "MiMo", XML, THINK),
    ReasoningFormat("olmo3", "OLMo 3 Think", XML, THINK),
    ReasoningFormat("nemotron_v3", "Nemotron 3", XML, THINK),
    ReasoningFormat("minicpmv", "MiniCPM-V", XML, THINK),
    ReasoningFormat("granite_thinking_parser", "Granite 4 thinking models", XML, HYBRID),
    ReasoningFormat(
        "openai_gptoss", "gpt-oss", "<|channel|>analysis<|message|>why<|end|><|channel|>final<|message|>yes", None
    ),
)

REASONING_FORMATS: Mapping[str, ReasoningFormat] = {form.name: form for form in FORMATS}
