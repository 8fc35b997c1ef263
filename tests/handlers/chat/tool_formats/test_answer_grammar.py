"""Grammars of answers: what models write by their formats is taken, and whatever they write keeps to the schemas."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any

import llguidance
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from writers import WRITERS

from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.vocabulary import SPECIAL_MARK, Vocabulary
from specserve.generated.errors import InvalidParameterCombination, UnsupportedValue
from specserve.handlers.chat.answer_formats import AnswerFormats
from specserve.handlers.chat.answer_grammar import AnswerShape
from specserve.handlers.chat.answer_pieces import FoldedAnswer, fold_pieces
from specserve.handlers.chat.reasoning_formats.registry import REASONING_FORMATS
from specserve.handlers.chat.reasoning_formats.think import Opening
from specserve.handlers.chat.tool_constraints import CallableTool, ToolUse
from specserve.handlers.chat.tool_formats.registry import TOOL_FORMATS
from specserve.handlers.chat.tool_formats.tool_format import ToolFormat

END = 256
NAMED_SPECIALS = ["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<think>", "</think>", "<|message|>"]
BYTES = [bytes([value]) for value in range(256)]
CLOSING_MARKS = [
    "<|close|>argument<|sep|>",
    "</parameter>",
    "</param>",
    "</arg_value>",
    "</｜DSML｜parameter>",
    "</steptml:parameter>",
    "<escape>",
    '<|"|>',
]
PLAIN = Vocabulary([*BYTES, SPECIAL_MARK + b"</s>", *(mark.encode() for mark in CLOSING_MARKS)], (END,))
WITH_SPECIALS = Vocabulary(
    [*BYTES, SPECIAL_MARK + b"</s>", *(SPECIAL_MARK + mark.encode() for mark in NAMED_SPECIALS)], (END,)
)
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "unit": {"enum": ["C", "F"]},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "wet": {"type": "boolean"},
    },
    "required": ["city", "days"],
}
CLOSED: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
SCHEMAS: dict[str, dict[str, Any]] = {"forecast": WEATHER, "g": CLOSED}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in SCHEMAS.items()]
VALID = {name: Draft202012Validator(schema | {"additionalProperties": False}) for name, schema in SCHEMAS.items()}
PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


class Checks:
    """As `GrammarChecker`, in this process."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.compiler = GrammarCompiler(vocabulary)

    async def check(self, spec: GrammarSpec, *, param: str) -> GrammarSpec:
        return self.compiler.check(spec)


CHECKS = {"plain": Checks(PLAIN), "special": Checks(WITH_SPECIALS)}


def callable_tool(name: str, *, strict: bool = True, parameters: dict[str, Any] | None = None) -> CallableTool:
    return CallableTool(name=name, parameters=parameters or SCHEMAS[name], strict=strict, where=f"tools.{name}")


STRICT = [callable_tool(name) for name in SCHEMAS]


def shaped(
    form: ToolFormat | None,
    *,
    tools: Sequence[CallableTool] = STRICT,
    parallel: bool = True,
    constraint: GrammarSpec | None = None,
    reasoning: str | None = None,
    opening: Opening | None = None,
    vocabulary: str = "plain",
) -> tuple[llguidance.LLMatcher, list[str]]:
    checks = CHECKS[vocabulary]
    checked = None if constraint is None else checks.compiler.check(constraint)
    shape = AnswerShape(
        formats=AnswerFormats(tools=form, reasoning=REASONING_FORMATS[reasoning] if reasoning else None),
        opening=opening,
        use=ToolUse(mode="auto", tools=tools, parallel=parallel),
        reads_calls=bool(tools),
        constraint=checked,
    )
    spec, unkept = asyncio.run(shape.grammar(checks))  # type: ignore[arg-type]
    assert spec is not None
    return checks.compiler.compile(spec), unkept


def takes(matcher: llguidance.LLMatcher, text: str, specials: Sequence[str] = ()) -> bool:
    """Whether the text may be a whole answer, its `specials` written as special tokens."""
    token_ids: list[int] = []
    while text:
        special = next((mark for mark in specials if text.startswith(mark)), None)
        if special is None:
            token_ids += text[0].encode()
            text = text[1:]
        else:
            token_ids.append(END + 1 + NAMED_SPECIALS.index(special))
            text = text.removeprefix(special)
    reading = matcher.deep_copy()
    return bool(reading.try_consume_tokens(token_ids) == len(token_ids) and reading.is_accepting())


def written_on(matcher: llguidance.LLMatcher, beginning: str, seed: int) -> str | None:
    """An answer with this beginning, otherwise at random as far as it ends; None when it does not come to an end."""
    dice = random.Random(seed)
    writing = matcher.deep_copy()
    answer = bytearray(beginning.encode())
    assert writing.try_consume_tokens(list(answer)) == len(answer), beginning
    for _ in range(3000):
        if writing.is_stopped():
            return answer.decode(errors="replace")
        bits = np.frombuffer(writing.compute_bitmask(), dtype=np.uint8)
        allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little")[: len(PLAIN.tokens)])
        readable = [token for token in allowed if token == END or 32 <= token < 127 or token == 10]
        closing = [token for token in allowed if token >= END or chr(token) in '"}])>']
        choices = closing if closing and dice.random() < 0.3 else readable or list(allowed)
        token_id = int(choices[dice.randrange(len(choices))])
        assert writing.consume_token(token_id)
        if token_id == END:
            return answer.decode(errors="replace")
        answer += PLAIN.tokens[token_id]
    return None


def read(form: ToolFormat, text: str) -> FoldedAnswer:
    parser = form.parser(TOOLS)
    return fold_pieces([*parser.feed(text), *parser.finish(is_cut=False)])


def form_of(writer: str) -> ToolFormat:
    return TOOL_FORMATS[writer.partition(" ")[0]]


MARKED = sorted(set(WRITERS) - {"openai"})


@pytest.mark.parametrize("writer", MARKED)
def test_calls_are_taken_as_models_write_them_and_only_if_they_are_right(writer: str) -> None:
    matcher, unkept = shaped(form_of(writer))
    write = WRITERS[writer]
    assert unkept == []
    assert takes(matcher, "Just text.")
    assert takes(matcher, write([("forecast", {"city": "Rome", "days": 3})]))
    assert takes(matcher, write([("forecast", {"city": "Rome", "days": 3, "unit": "C", "wet": True}), ("g", {})]))
    assert not takes(matcher, write([("forecast", {"city": "Rome", "days": 99})]))
    assert not takes(matcher, write([("forecast", {"city": "Rome"})]))
    assert not takes(matcher, write([("forecast", {"city": "Rome", "days": 3, "unit": "K"})]))
    assert not takes(matcher, write([("unknown", {})]))


@pytest.mark.parametrize("writer", MARKED)
def test_without_parallel_calls_there_is_one_at_most(writer: str) -> None:
    matcher, _ = shaped(form_of(writer), parallel=False)
    write = WRITERS[writer]
    assert takes(matcher, write([("g", {})]))
    assert takes(matcher, "Just text.")
    assert not takes(matcher, write([("g", {}), ("g", {})]))


@pytest.mark.parametrize("writer", MARKED)
def test_whatever_is_written_behind_a_mark_is_read_as_valid_calls(writer: str) -> None:
    """The marks are those of the oracle's call, up to the name of the function."""
    form = form_of(writer)
    matcher, _ = shaped(form)
    example = WRITERS[writer]([("forecast", {"city": "Rome", "days": 3})])
    beginning = example[: example.index("forecast") + len("forecast")]
    num_calls = 0
    for seed in range(6):
        text = written_on(matcher, beginning, seed)
        if text is None:
            continue
        found = read(form, text).calls
        assert found, text
        num_calls += len(found)
        for call in found:
            assert call.is_complete, text
            assert list(VALID[call.name].iter_errors(json.loads(call.arguments))) == [], text
    assert num_calls


@pytest.mark.parametrize(
    ("writer", "text"),
    [
        ("hermes", '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>'),
        ("mistral", "[TOOL_CALLS]g[ARGS]{}"),
    ],
)
def test_marks_may_be_special_tokens(writer: str, text: str) -> None:
    matcher, _ = shaped(form_of(writer), vocabulary="special")
    assert takes(matcher, text, NAMED_SPECIALS)
    assert takes(matcher, "Text first. " + text, NAMED_SPECIALS)
    assert takes(matcher, text)
    assert not takes(matcher, text.replace("g", "h", 1), NAMED_SPECIALS)
    assert not takes(matcher, "Text </think>", NAMED_SPECIALS)


def test_tools_that_are_not_strict_take_any_arguments_beside_strict_ones() -> None:
    for writer in ("hermes", "qwen3_coder", "pythonic", "functiongemma"):
        loose = [callable_tool("forecast", strict=False), callable_tool("g")]
        matcher, unkept = shaped(form_of(writer), tools=loose)
        assert unkept == []
        assert takes(matcher, WRITERS[writer]([("forecast", {"other": 5 if writer == "pythonic" else "x y"})]))
        assert not takes(matcher, WRITERS[writer]([("g", {"other": 5})]))


@pytest.mark.parametrize(
    ("writer", "property_schema"),
    [
        ("qwen3_coder", {"type": "string", "pattern": "^a"}),
        ("glm45", {"anyOf": [{"type": "string"}, {"type": "integer", "maximum": 3}]}),
        ("gemma4", {"type": "array", "items": {"type": "string"}}),
    ],
)
def test_what_a_format_cannot_keep_to_is_named(writer: str, property_schema: dict[str, Any]) -> None:
    parameters = {"type": "object", "properties": {"x": property_schema}}
    matcher, unkept = shaped(form_of(writer), tools=[callable_tool("forecast", parameters=parameters)])
    assert unkept == ["tools.forecast.strict"]
    assert takes(matcher, WRITERS[writer]([("forecast", {"x": "anything"})]))


def test_texts_between_tags_keep_to_their_length_and_choices() -> None:
    parameters = {
        "type": "object",
        "properties": {"code": {"type": "string", "minLength": 2, "maxLength": 3}, "mode": {"$ref": "#/$defs/mode"}},
        "required": ["code", "mode"],
        "$defs": {"mode": {"enum": ["on", "off"], "type": "string"}},
    }
    matcher, unkept = shaped(form_of("qwen3_coder"), tools=[callable_tool("forecast", parameters=parameters)])
    write = WRITERS["qwen3_coder"]
    assert unkept == []
    assert takes(matcher, write([("forecast", {"code": "a\nb", "mode": "on"})]))
    for wrong in ({"code": "a", "mode": "on"}, {"code": "abcd", "mode": "on"}, {"code": "ab", "mode": "no"}):
        assert not takes(matcher, write([("forecast", wrong)]))


def test_a_keyword_that_no_grammar_knows_is_refused_for_a_strict_tool() -> None:
    class Refuses(Checks):
        async def check(self, spec: GrammarSpec, *, param: str) -> GrammarSpec:
            if param == "tools.forecast.parameters":
                raise UnsupportedValue("not", param=param)
            return await super().check(spec, param=param)

    shape = AnswerShape(
        formats=AnswerFormats(tools=form_of("hermes"), reasoning=None),
        opening=None,
        use=ToolUse(mode="auto", tools=STRICT),
        reads_calls=True,
        constraint=None,
    )
    with pytest.raises(UnsupportedValue):
        asyncio.run(shape.grammar(Refuses(PLAIN)))  # type: ignore[arg-type]


JSON_ANSWER = GrammarSpec(kind="json_schema", source=json.dumps(PERSON), param="response_format")


@pytest.mark.parametrize("writer", MARKED)
def test_beside_tools_a_constrained_answer_is_a_call_or_the_form(writer: str) -> None:
    loose = [callable_tool(name, strict=False) for name in SCHEMAS]
    matcher, _ = shaped(form_of(writer), tools=loose, constraint=JSON_ANSWER)
    assert takes(matcher, '{"age": 7}')
    assert takes(matcher, WRITERS[writer]([("g", {})]))
    assert not takes(matcher, "text")
    assert not takes(matcher, '{"age": "old"}')
    assert not takes(matcher, '{"age": 7} ' + WRITERS[writer]([("g", {})]))


@pytest.mark.parametrize(
    ("kind", "source", "right", "wrong"),
    [
        ("regex", "[a-c]{3}", "abc", "abd"),
        ("choice", '["yes", "no"]', "no", "nope"),
        ("grammar", 'root ::= "x" root | "y"', "xxy", "xx"),
        ("structural_tag", '{"format": {"type": "tag", "begin": "<", "content": {"type": "grammar", '
         '"grammar": "root ::= \\"x\\""}, "end": ">"}}', "<x>", "<y>"),
        ("json_object", "", '{"a": [1]}', "[1]"),
    ],
)  # fmt: skip
def test_every_kind_of_constraint_may_follow_reasoning(kind: Any, source: str, right: str, wrong: str) -> None:
    spec = GrammarSpec(kind=kind, source=source)
    matcher, _ = shaped(None, tools=[], constraint=spec, reasoning="qwen3", opening="open")
    assert takes(matcher, f"Let me think: {wrong} <tool_call\n</think>{right}")
    assert not takes(matcher, f"thought</think>{wrong}")
    assert not takes(matcher, right)


@pytest.mark.parametrize(
    ("reasoning", "opening", "thought", "taken"),
    [
        ("qwen3", "none", "<think>why</think>", True),
        ("qwen3", "none", "", True),
        ("qwen3", "none", "why</think>", False),
        ("qwen3", "closed", "<think>why</think>", False),
        ("qwen3", "closed", "", True),
        ("deepseek_r1", "none", "why</think>", True),
        ("deepseek_r1", "none", "", False),
        ("kimi_k3", "none", "<|open|>think<|sep|>why<|close|>think<|sep|>", True),
        ("mistral", "none", "[THINK]why[/THINK]", True),
        ("granite", "none", "Here is my thought process: why Here is my response:", True),
        ("qwen3", "none", "<think>a <tool_call> in thought</think>", False),
    ],
)
def test_reasoning_comes_first_as_far_as_the_prompt_leaves_it_open(
    reasoning: str, opening: Opening, thought: str, taken: bool
) -> None:
    matcher, _ = shaped(None, tools=[], constraint=JSON_ANSWER, reasoning=reasoning, opening=opening)
    if opening == "closed":  # then the constraint is the whole answer
        assert takes(matcher, '{"age": 1}')
    assert takes(matcher, thought + '{"age": 1}') is taken


def test_answers_within_marks_keep_to_their_form() -> None:
    matcher, _ = shaped(None, tools=[], constraint=JSON_ANSWER, reasoning="hunyuan_a13b", opening="none")
    assert takes(matcher, '<think>\nwhy\n</think>\n<answer>\n{"age": 1}\n</answer>')
    assert takes(matcher, '<think>why</think>{"age": 1}')
    assert not takes(matcher, "<think>why</think><answer>text</answer>")


def test_strict_calls_may_follow_reasoning_that_ends_with_a_special_token() -> None:
    matcher, _ = shaped(form_of("hermes"), reasoning="qwen3", opening="none", vocabulary="special")
    call = WRITERS["hermes"]([("g", {})])
    assert takes(matcher, f"<think>why</think>\n\n{call}", NAMED_SPECIALS)
    assert takes(matcher, f"<think>why</think>\n\nText {call}", NAMED_SPECIALS)
    assert not takes(matcher, f"<think>why {call}</think>", NAMED_SPECIALS)


def test_gpt_oss_thinks_and_then_calls_or_answers() -> None:
    thought = "<|channel|>analysis<|message|>why<|end|><|start|>assistant"
    call = WRITERS["openai"]([("forecast", {"city": "Rome", "days": 3})]).removesuffix("<|call|>")
    matcher, _ = shaped(form_of("openai"))
    assert takes(matcher, thought + call)
    assert takes(matcher, thought + "<|channel|>final<|message|>Text.")
    assert not takes(matcher, thought + call.replace("3", "33"))
    constrained, _ = shaped(form_of("openai"), constraint=JSON_ANSWER)
    assert takes(constrained, thought + '<|channel|>final<|message|>{"age": 3}')
    assert takes(constrained, thought + call)
    assert not takes(constrained, thought + "<|channel|>final<|message|>Text.")


def test_a_form_that_only_its_parser_knows_is_told_or_refused() -> None:
    plugin = ToolFormat("mine", "", "", form_of("hermes").parser)
    shape = AnswerShape(
        formats=AnswerFormats(tools=plugin, reasoning=None),
        opening=None,
        use=ToolUse(mode="auto", tools=STRICT),
        reads_calls=True,
        constraint=None,
    )
    assert asyncio.run(shape.grammar(CHECKS["plain"])) == (None, ["tools.forecast.strict", "tools.g.strict"])  # type: ignore[arg-type]
    with pytest.raises(InvalidParameterCombination) as refused:
        shaped(plugin, constraint=JSON_ANSWER)
    assert refused.value.param == "response_format"
