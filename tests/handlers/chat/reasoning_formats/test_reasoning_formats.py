"""Every reasoning format: what is thought and what is said, whole and cut in any way."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specserve.handlers.chat.answer_pieces import AnswerParser, FoldedAnswer, fold_pieces
from specserve.handlers.chat.reasoning_formats.registry import REASONING_FORMATS
from specserve.handlers.chat.reasoning_formats.think import Opening, ThinkParser
from specserve.handlers.chat.tool_formats.harmony import HarmonyParser

THINKING = [name for name, form in REASONING_FORMATS.items() if form.think is not None]


def make(name: str, opening: Opening = "unknown") -> AnswerParser:
    think = REASONING_FORMATS[name].think
    return HarmonyParser(takes_calls=False) if think is None else ThinkParser(think, opening)


def fold(parser: AnswerParser, *texts: str) -> FoldedAnswer:
    pieces = [piece for text in texts for piece in parser.feed(text)]
    return fold_pieces([*pieces, *parser.finish(is_cut=False)])


def check(name: str, text: str, reasoning: str, content: str, opening: Opening = "unknown") -> None:
    """Whole, in single characters, and in all cuts in two and in three."""
    expected = FoldedAnswer(reasoning=reasoning, content=content)
    parser = partial(make, name, opening)
    assert fold(parser(), text) == expected
    assert fold(parser(), *text) == expected
    for second in range(len(text) + 1):
        for first in range(second):
            assert fold(parser(), text[:first], text[first:second], text[second:]) == expected, (first, second)


@pytest.mark.parametrize("name", REASONING_FORMATS)
def test_the_example_thinks_why_and_says_yes(name: str) -> None:
    text = REASONING_FORMATS[name].example.replace("\\n", "\n")
    if name == "minimax_m2_append_think":
        check(name, text, "", f"<think>{text}")
    elif name == "granite":
        check(name, text, " why ", " yes")
    else:
        check(name, text, "why", "yes")


# The first rows are facts about the reference server; where ours differs, a row with the reason stands below.
@pytest.mark.parametrize(
    ("name", "text", "reasoning", "content"),
    [
        ("deepseek_r1", "<think>abc</think>def", "abc", "def"),
        ("qwen3", "<think>abc</think>def", "abc", "def"),
        ("deepseek_r1", "abc</think>def", "abc", "def"),
        ("qwen3", "abc</think>def", "abc", "def"),
        ("deepseek_r1", "abc", "abc", ""),
        ("qwen3", "abc", "abc", ""),
        ("glm45", "abc", "abc", ""),
        ("kimi_k2", "abc", "abc", ""),
        ("deepseek_r1", "<think>abc</think>", "abc", ""),
        ("qwen3", "<think>\nabc\n</think>\n\ndef", "\nabc\n", "\n\ndef"),
        ("granite", "Here is my thought process: abc Here is my response: def", " abc ", " def"),
        ("granite", "no marks", "", "no marks"),
        ("hunyuan_a13b", "no marks", "", "no marks"),
        ("hunyuan_a13b", "<think>\nabc\n</think>\n<answer>\ndef\n</answer>", "abc", "def"),
        ("minimax_m2_append_think", "abc</think>def", "", "<think>abc</think>def"),
        ("step3", "abc</think>def", "abc", "def"),
        ("ernie45", "abc</think>\n\n<response>\ndef\n</response>", "abc", "\ndef\n"),
        # No text is lost: what stands before the first mark is reasoning, with the mark.
        ("deepseek_r1", "pre<think>abc</think>def", "pre<think>abc", "def"),
        # A call ends reasoning that was not closed; its mark stays for whoever reads calls.
        ("qwen3", "abc<tool_call>{", "abc", "<tool_call>{"),
        ("kimi_k2", "<think>abc<|tool_calls_section_begin|>", "abc", "<|tool_calls_section_begin|>"),
        # Only the first block is reasoning: a model may write about the marks.
        ("qwen3", "<think>a</think>b<think>c</think>d", "a", "b<think>c</think>d"),
        ("qwen3", "<think></think>def", "", "def"),
        ("qwen3", "", "", ""),
        ("mistral", "[THINK]abc[/THINK]def", "abc", "def"),
        ("cohere_command3", "<|START_THINKING|>abc<|END_THINKING|>def", "abc", "def"),
        ("openai_gptoss", "plain", "", "plain"),
        ("openai_gptoss", "<|channel|>analysis<|message|>abc", "abc", ""),
    ],
)
def test_what_is_thought_and_what_is_said(name: str, text: str, reasoning: str, content: str) -> None:
    check(name, text, reasoning, content)


@pytest.mark.parametrize(
    ("name", "opening", "text", "reasoning", "content"),
    [
        ("qwen3", "open", "abc</think>def", "abc", "def"),
        ("qwen3", "open", "<think>abc</think>def", "abc", "def"),
        ("qwen3", "closed", "abc", "", "abc"),
        ("qwen3", "closed", "<think>abc</think>", "", "<think>abc</think>"),
        ("qwen3", "none", "abc", "", "abc"),
        ("qwen3", "none", "\n<think>abc</think>def", "abc", "def"),
        ("qwen3", "none", "the tag <think> opens", "", "the tag <think> opens"),
        ("deepseek_r1", "none", "abc</think>def", "abc", "def"),
        ("deepseek_v3", "none", "abc</think>", "", "abc</think>"),
        ("granite", "none", "Here is the plan", "", "Here is the plan"),
        ("minimax_m2_append_think", "none", "abc", "", "abc"),
    ],
)
def test_the_prompt_may_have_opened_or_closed_the_reasoning(
    name: str, opening: Opening, text: str, reasoning: str, content: str
) -> None:
    check(name, text, reasoning, content, opening)


@pytest.mark.parametrize(
    ("prompt", "continued", "opening"),
    [
        ("<|im_start|>assistant\n<think>\n", "", "open"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "", "closed"),
        ("<|im_start|>assistant\n", "", "none"),
        ("<|im_start|>user\nwhat is <think>?<|im_end|>\n<|im_start|>assistant\n", "", "none"),
        ("…assistant\n<think>half a thought", "<think>half a thought", "open"),
        ("…assistant\n<think>a</think>So", "<think>a</think>So", "closed"),
        ("…assistant\nSo", "So", "closed"),
    ],
)
def test_the_end_of_the_prompt_tells_who_opened_the_reasoning(prompt: str, continued: str, opening: Opening) -> None:
    think = REASONING_FORMATS["qwen3"].think
    assert think is not None
    assert think.opening_of(prompt, continued) == opening


@settings(max_examples=60, deadline=None)
@given(data=st.data(), opening=st.sampled_from(["open", "closed", "none", "unknown"]))
@pytest.mark.parametrize("name", REASONING_FORMATS)
def test_torn_marks_fold_the_same_in_any_cut(name: str, opening: Opening, data: st.DataObject) -> None:
    example = REASONING_FORMATS[name].example.replace("\\n", "\n")
    marks = [example[: example.index("why")], example[example.index("why") + 3 : example.index("yes")]]
    fragments = [*marks, *(mark[:-1] for mark in marks), *(mark[1:] for mark in marks), "\n", " ", "<", "text", "🙂"]
    text = "".join(data.draw(st.lists(st.sampled_from(fragments), max_size=12)))
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    cut = [text[start:end] for start, end in pairwise([0, *places, len(text)])]
    whole = fold(make(name, opening), text)
    assert fold(make(name, opening), *cut) == whole
    assert fold(make(name, opening), *text) == whole
    if text.count("text"):
        assert (whole.reasoning + whole.content).count("text") == text.count("text") or name == "openai_gptoss"


@pytest.mark.parametrize("name", THINKING)
def test_long_reasoning_keeps_little_back(name: str) -> None:
    think = REASONING_FORMATS[name].think
    assert think is not None
    parser = ThinkParser(think, "open")
    for _ in range(1000):
        parser.feed(think.ends[0][:-1] + "< \n")
        assert parser.num_unread < len(think.ends[0])
