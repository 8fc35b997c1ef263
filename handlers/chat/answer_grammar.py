"""The grammar of a whole answer: reasoning first where there may be some, then a call, the constrained text, or both.

A constraint of the text alone is that of the answer when no reasoning and no calls can come; else the parts are put
together here. What the grammar cannot keep a strict tool to is told, never dropped in silence.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from specserve.engine.grammar_spec import GrammarSpec
from specserve.generated.errors import InvalidParameterCombination
from specserve.handlers.chat.answer_formats import AnswerFormats
from specserve.handlers.chat.call_grammars.harmony import harmony_answer
from specserve.handlers.chat.call_grammars.parameters import NotWritable, takes_anything
from specserve.handlers.chat.call_grammars.pieces import (
    Format,
    WrittenTool,
    either,
    optional,
    sequence,
    text,
    up_to,
)
from specserve.handlers.chat.reasoning_formats.think import Opening, ThinkFormat
from specserve.handlers.chat.tool_constraints import WHITE_SPACE, CallableTool, ToolUse, arguments_schema, closed
from specserve.handlers.chat.tool_constraints import grammar_of as grammar_of_schema
from specserve.handlers.chat.tool_formats.tool_format import CallForm
from specserve.handlers.grammars import GrammarChecker

PART: Format = {"type": "part", "at": 0}
LINE: Format = {"type": "regex", "pattern": "\\n?"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerShape:
    """What an answer may be made of.

    opening      what the prompt did with the reasoning; None where answers have none
    use          the tools; those that are forced are in the constraint already
    reads_calls  whether calls will be looked for in the text
    constraint   of the text, checked; `param` is where it came from
    """

    formats: AnswerFormats
    opening: Opening | None
    use: ToolUse
    reads_calls: bool
    constraint: GrammarSpec | None

    @property
    def think(self) -> ThinkFormat | None:
        """The reasoning that may come before the rest."""
        may_think = self.opening is not None and self.opening != "closed"
        return self.formats.reasoning.think if may_think and self.formats.reasoning is not None else None

    async def grammar(self, checker: GrammarChecker) -> tuple[GrammarSpec | None, list[str]]:
        """The grammar, None for free text; and the fields that it does not keep, such as `tools.0.function.strict`.

        Raises InvalidParameterCombination where calls and the constraint exclude each other, InvalidConstraint for
        parameters of strict tools, and what the checker raises.
        """
        strict = [tool for tool in self.use.tools if tool.strict] if self.use.mode == "auto" else []
        form = self.formats.tools if self.reads_calls else None
        if form is None or form.calls is None:
            if form is not None and self.constraint is not None:
                raise InvalidParameterCombination(
                    f"answers cannot be constrained beside calls in the form {form.name}, which only its parser "
                    'knows; send tool_choice "none", or leave the constraint out',
                    param=self.constraint.param,
                )
            return await self._of_constraint(checker), [f"{tool.where}.strict" for tool in strict]
        if self.constraint is None and not strict:
            return None, []
        tools, unkept = await self._written(form.calls, strict, checker)
        only_one = not self.use.parallel
        if self.formats.is_harmony:
            body = harmony_answer(tools, None if self.constraint is None else PART)
        elif self.constraint is None:
            body = form.calls.grammar(tools, only_one=only_one).in_text(only_one=only_one)
        else:
            body = either(PART, form.calls.grammar(tools, only_one=only_one).alone(only_one=only_one))
        return await self._checked(body, checker), unkept

    async def _of_constraint(self, checker: GrammarChecker) -> GrammarSpec | None:
        """Without calls: the constraint behind the reasoning, if there may be some."""
        if self.constraint is None:
            return None
        if self.formats.is_harmony and not self.use.is_forced:
            return await self._checked(harmony_answer([], PART), checker)
        return self.constraint if self.think is None else await self._checked(PART, checker)

    async def _written(
        self, form: CallForm, strict: Sequence[CallableTool], checker: GrammarChecker
    ) -> tuple[list[WrittenTool], list[str]]:
        """The tools as this format writes them. Those that are not strict take any arguments."""
        found: list[WrittenTool] = []
        unkept: list[str] = []
        for tool in self.use.tools:
            written = WrittenTool(name=tool.name)
            if tool in strict:
                schema = closed(arguments_schema(tool))
                await checker.check(grammar_of_schema(schema, strict=True), param=tool.parameters_at)
                if form.parameters is None:
                    written = WrittenTool(name=tool.name, schema=schema)
                elif not takes_anything(schema):
                    try:
                        written = WrittenTool(name=tool.name, parameters=form.parameters(schema))
                    except NotWritable:
                        unkept.append(f"{tool.where}.strict")
            found.append(written)
        return found, unkept

    async def _checked(self, body: Format, checker: GrammarChecker) -> GrammarSpec:
        form = body if self.think is None or self.opening is None else with_reasoning(self.think, self.opening, body)
        spec = GrammarSpec(
            kind="answer",
            source=json.dumps({"format": form}, ensure_ascii=False, separators=(",", ":")),
            parts=() if self.constraint is None else (self.constraint.rules,),
            whitespace_pattern=WHITE_SPACE,
        )
        return await checker.check(spec, param="tools" if self.constraint is None else self.constraint.param)


def with_reasoning(think: ThinkFormat, opening: Opening, body: Format) -> Format:
    """What the model thinks, as far as the prompt leaves it open, then the body, in the marks of answers or bare."""
    if think.answer is not None:
        start, end = map(text, think.answer)
        body = either(sequence(LINE, start, LINE, body, LINE, end), body)
    thought = up_to(*think.ends, excludes=think.also_ends)
    started = sequence(LINE, either(*map(text, think.starts)))
    if opening == "open":
        return sequence(thought, body)
    if think.always_thinks:
        return sequence(optional(started), thought, body)
    return sequence(optional(sequence(started, thought)), body)
