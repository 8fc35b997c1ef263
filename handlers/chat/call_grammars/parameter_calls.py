"""Calls that write their parameters one by one: between tags, as Python, as Gemma does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from specserve.handlers.chat.call_grammars.parameters import Parameter
from specserve.handlers.chat.call_grammars.pieces import (
    SPACE,
    CallGrammar,
    Format,
    WrittenTool,
    either,
    entries,
    json_value,
    optional,
    pattern,
    repeat,
    sequence,
    text,
    up_to,
)
from specserve.handlers.chat.tool_formats.gemma_calls import GemmaCallFormat
from specserve.handlers.chat.tool_formats.parameter_tags import TEXT, ParameterTagFormat
from specserve.handlers.chat.tool_formats.python_calls import PythonCallFormat

ANY_KEY = "[A-Za-z0-9_.-]{1,64}"
ANY_KEYWORD = "[A-Za-z_][A-Za-z0-9_]{0,63}"
LINE = pattern("\\n?")
PYTHON_FORMS: Mapping[str, Format] = {
    "string": pattern(r"'[^'\\\n]*'"),
    "boolean": pattern("True|False"),
    "null": text("None"),
}


# ---- between tags ----------------------------------------------------------------------------------------------


def tag_calls(form: ParameterTagFormat, tools: Sequence[WrittenTool], *, only_one: bool) -> CallGrammar:
    mark = form.call_prefix or form.call_start
    calls = either(*(tagged(form, tool) for tool in tools))
    if not form.sections:
        return CallGrammar(starts={mark: [calls]})
    if mark:
        calls = sequence(text(mark), calls)
    if form.call_end and not only_one:
        calls = repeat(calls, pattern("\\s{0,2}"))
    starts = {start: [sequence(SPACE, calls, SPACE, text(end))] for start, end in form.sections.items()}
    return CallGrammar(starts=starts, excludes=(mark,) if mark else ())


def tagged(form: ParameterTagFormat, tool: WrittenTool) -> Format:
    """One call, behind the mark it begins with."""
    before = form.call_start if form.call_prefix else ""
    name = text(f"{before}{tool.name}{form.name_end}")
    if form.attributes_end:
        name = sequence(name, pattern('( index="[0-9]{1,3}")?'), text(form.attributes_end))
    if tool.parameters is None:
        one = either(*(tagged_freely(form, end) for end in form.key_ends))
        found = optional(repeat(one, LINE))
    else:
        found = entries([(tag_of(form, each), each.is_required) for each in tool.parameters], "")
    end = text(form.call_end + form.call_suffix)
    return sequence(name, LINE, found, end) if form.call_end else sequence(name, LINE, found)


def tagged_freely(form: ParameterTagFormat, key_end: str) -> Format:
    value = [SPACE, text(form.value_start)] if form.value_start else []
    end = up_to(form.parameter_end, excludes=value_ends(form))
    return sequence(text(form.parameter_start), pattern(ANY_KEY), text(key_end), *value, end, LINE)


def value_ends(form: ParameterTagFormat) -> list[str]:
    """Marks that would end a value, besides the one that does."""
    return [form.parameter_start, form.call_end] if form.forgets_ends else []


def tag_of(form: ParameterTagFormat, parameter: Parameter) -> Format:
    found = {end: types for end, types in form.key_ends.items() if may_have(parameter, types)}
    plain = next((end for end, types in found.items() if not types or types == TEXT), None)
    if plain is not None:
        return tag_with(form, parameter, plain, parameter.schema)
    narrowed = [(end, {**parameter.schema, "type": kind}) for end, types in found.items() for kind in types or ()]
    return either(*(tag_with(form, parameter, end, schema) for end, schema in narrowed))


def may_have(parameter: Parameter, types: frozenset[str] | None) -> bool:
    """Whether a value of this parameter may be marked to have these types; none at all stand for any JSON."""
    if types is None:
        return True
    if parameter.is_text or types == TEXT:
        return types == TEXT and parameter.is_text
    return not types or not parameter.types or bool(types & parameter.types)


def tag_with(form: ParameterTagFormat, parameter: Parameter, key_end: str, schema: Mapping[str, Any]) -> Format:
    opening: list[Format] = [text(f"{form.parameter_start}{parameter.name}{key_end}")]
    if form.value_start:
        opening += [LINE, text(form.value_start)]
    line = "\n" if form.trims_newline else ""
    if line:
        opening.append(text(line))
    end = line + form.parameter_end
    if not parameter.is_text:
        value = [json_value(schema), text(end)]
    elif parameter.choices:
        value = [either(*map(text, parameter.choices)), text(end)]
    else:
        excludes = [*value_ends(form), form.parameter_end] if line else value_ends(form)
        value = [up_to(end, excludes=excludes, least=parameter.least, most=parameter.most)]
    return sequence(*opening, *value, LINE)


# ---- Python ----------------------------------------------------------------------------------------------------


def python_calls(form: PythonCallFormat, tools: Sequence[WrittenTool], *, only_one: bool) -> CallGrammar:
    calls = either(*(python_call(tool) for tool in tools if is_dotted_name(tool.name)))
    if not only_one:
        calls = repeat(calls, pattern(", ?" if form.needs_brackets else "\\n"))
    if form.needs_brackets:
        calls = sequence(text("["), calls, text("]"))
    starts = {start: [sequence(LINE, calls, LINE, text(end))] for start, end in form.sections.items()}
    return CallGrammar(starts=starts, bare=calls if form.bare else None, bars="[" if form.bare else "")


def python_call(tool: WrittenTool) -> Format:
    if tool.parameters is None:
        found = optional(repeat(sequence(pattern(f"{ANY_KEYWORD}="), json_value(True)), text(", ")))
    else:
        written = [(sequence(text(f"{each.name}="), python_value(each)), each.is_required) for each in tool.parameters]
        found = entries(written, ", ")
    return sequence(text(f"{tool.name}("), found, text(")"))


def python_value(parameter: Parameter) -> Format:
    """As JSON, which is read too, or as Python writes it where that is certain to meet the schema."""
    forms = [json_value(parameter.schema)]
    quotable = [choice for choice in parameter.choices if isinstance(choice, str) and not set(choice) & set("'\\\n")]
    forms += [text(f"'{choice}'") for choice in quotable]
    if parameter.is_free:
        forms += [PYTHON_FORMS[kind] for kind in sorted(parameter.types & PYTHON_FORMS.keys())]
    return either(*forms)


def is_dotted_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


# ---- Gemma -----------------------------------------------------------------------------------------------------


def gemma_calls(form: GemmaCallFormat, tools: Sequence[WrittenTool], *, only_one: bool) -> CallGrammar:
    return CallGrammar(starts={form.start: [gemma_call(form, tool) for tool in tools]})


def gemma_call(form: GemmaCallFormat, tool: WrittenTool) -> Format:
    name, end = text(f"call:{tool.name}{{"), "}" + form.end
    if tool.parameters is None:
        quoted = optional(repeat(up_to(form.quote, excludes=[end]), text("")))
        return sequence(name, quoted, up_to(end, excludes=[form.quote]))
    written = [(sequence(text(f"{each.name}:"), gemma_value(form, each)), each.is_required) for each in tool.parameters]
    return sequence(name, entries(written, ","), text(end))


def gemma_value(form: GemmaCallFormat, parameter: Parameter) -> Format:
    if not parameter.is_text:
        return json_value(parameter.schema)
    quote = text(form.quote)
    if parameter.choices:
        return sequence(quote, either(*map(text, parameter.choices)), quote)
    quoted = sequence(quote, up_to(form.quote, least=parameter.least, most=parameter.most))
    return either(quoted, text("null")) if "null" in parameter.types else quoted
