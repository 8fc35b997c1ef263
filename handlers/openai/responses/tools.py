"""What a request says about tools: those the model may call, how it sees them, and what clients call them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from specserve.generated import schemas
from specserve.generated.base import ApiModel
from specserve.generated.errors import InvalidParameterCombination, UnsupportedValue
from specserve.handlers.chat.constraint import UNKEPT_HEADER
from specserve.handlers.chat.conversation import Tool
from specserve.handlers.chat.tool_constraints import CallableTool, Mode, ToolUse, check_known, check_names
from specserve.handlers.openai.responses.conversation import INPUT, full_name
from specserve.handlers.openai.responses.reading import names_header, read_again

SKIPPED_TOOLS_HEADER = "x-skipped-tools"
KINDS: dict[str, type[ApiModel]] = {
    "function": schemas.ResponseFunctionTool,
    "custom": schemas.ResponseCustomTool,
    "namespace": schemas.NamespaceTool,
}
Own = schemas.ResponseFunctionTool | schemas.ResponseCustomTool
Body = schemas.ResponseRequest | schemas.InputTokensRequest


@dataclass(frozen=True, slots=True)
class KnownTool:
    """A tool by the name the model calls: what kind it is, and what the client calls it."""

    kind: str
    name: str
    namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseTools:
    """`shown` are the tools the template gets, `known` all that can be called, by the model's names for them.

    `skipped` are the kinds of tools that do not run here, `unkept` the fields that ask for more than can be held to.
    """

    shown: list[Tool] = field(default_factory=list)
    use: ToolUse = field(default_factory=ToolUse)
    known: Mapping[str, KnownTool] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    unkept: list[str] = field(default_factory=list)

    def report(self, headers: dict[str, str]) -> None:
        if self.skipped:
            headers[SKIPPED_TOOLS_HEADER] = names_header(self.skipped)
        if self.unkept:
            told = headers[UNKEPT_HEADER].split(",") if UNKEPT_HEADER in headers else []
            headers[UNKEPT_HEADER] = names_header([*told, *self.unkept])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTool:
    """One tool in its three forms. `is_unkept`: nothing holds its text to the format that was asked for."""

    shown: Tool
    callable: CallableTool
    known: KnownTool
    is_unkept: bool


def read_tools(body: Body, *, hide_unused: bool = False, at_most_one: bool = False) -> ResponseTools:
    """Raises InvalidParameterCombination or UnsupportedValue naming the place at fault.

    `hide_unused`: with tool_choice none the model does not see the tools. `at_most_one` call may be in the answer.
    """
    read: list[ReadTool] = []
    skipped: list[str] = []
    for at, entry in enumerate(body.tools or []):
        place = f"tools.{at}"
        tool = read_again(entry, KINDS, place)
        if isinstance(tool, schemas.OtherTool):
            skipped.append(tool.type or "")
        else:
            read += read_own(tool, place)
    check_names([tool.callable for tool in read])
    choice = body.tool_choice or "auto"
    if not read:
        check_without_tools(choice, skipped)
        return ResponseTools(skipped=skipped)
    mode: Mode
    if isinstance(choice, str):
        mode, chosen = choice, read
    else:
        mode, chosen = specific_choice(choice, read)
    if mode in ("required", "named"):
        check_kept(chosen)
    shown = read if mode == "named" else [] if mode == "none" and hide_unused else chosen
    parallel = body.parallel_tool_calls is not False and not at_most_one
    return ResponseTools(
        shown=[tool.shown for tool in shown],
        use=ToolUse(mode=mode, tools=[tool.callable for tool in chosen], parallel=parallel),
        known={tool.callable.name: tool.known for tool in read},
        skipped=skipped,
        unkept=[f"{tool.callable.where}.format" for tool in read if tool.is_unkept],
    )


def check_without_tools(choice: schemas.ResponseToolChoice, skipped: Sequence[str]) -> None:
    """Hosted tools are skipped; only a request that insists on them cannot be answered."""
    if not isinstance(choice, str):
        check_hosted(choice)
    if choice in ("auto", "none"):
        return
    if skipped:
        raise UnsupportedValue(
            f"tool_choice asks for a call, but no tool of the kind {names_header(skipped)} runs here; send functions",
            param="tool_choice",
        )
    raise InvalidParameterCombination(
        "tool_choice says which tools to call, but there are none; send tools, or leave tool_choice out",
        param="tool_choice",
    )


def check_hosted(choice: schemas.ToolChoiceObject) -> None:
    if isinstance(choice, schemas.HostedToolChoice):
        raise UnsupportedValue(
            f"tool_choice names a tool of type {choice.type}, which does not run here; only function and custom tools "
            "are offered",
            param="tool_choice.type",
        )


def read_own(tool: ApiModel, place: str) -> Iterator[ReadTool]:
    """A tool, or those of a namespace."""
    if isinstance(tool, schemas.NamespaceTool):
        for at, inner in enumerate(tool.tools):
            yield read_one(inner, f"{place}.tools.{at}", tool.name)
    elif isinstance(tool, Own):
        yield read_one(tool, place, None)


def read_one(tool: Own, place: str, namespace: str | None) -> ReadTool:
    name = full_name(tool.name, namespace)
    function: dict[str, Any] = {"name": name}
    if tool.description is not None:
        function["description"] = tool.description
    if isinstance(tool, schemas.ResponseFunctionTool):
        parameters, strict = tool.parameters, bool(tool.strict)
        if strict:
            function["strict"] = True
    else:
        parameters = {"type": "object", "properties": {INPUT: text_schema(tool)}, "required": [INPUT]}
        strict = isinstance(tool.format, schemas.CustomInputGrammar) and not is_unkept(tool)
    if parameters is not None:
        function["parameters"] = parameters
    return ReadTool(
        shown={"type": "function", "function": function},
        callable=CallableTool(name=name, parameters=parameters, strict=strict, where=place),
        known=KnownTool(tool.type, tool.name, namespace),
        is_unkept=is_unkept(tool),
    )


def text_schema(tool: schemas.ResponseCustomTool) -> dict[str, Any]:
    """The text a custom tool takes, as the schema of its one argument. Of a Lark grammar the model is only told."""
    form = tool.format
    if not isinstance(form, schemas.CustomInputGrammar):
        return {"type": "string"}
    if form.syntax == "regex":
        return {"type": "string", "pattern": f"^(?:{form.definition})$"}
    return {"type": "string", "description": f"Text of this grammar: {form.definition}"}


def is_unkept(tool: ApiModel) -> bool:
    """Whether the format of a tool is more than JSON around its text can be held to."""
    return (
        isinstance(tool, schemas.ResponseCustomTool)
        and isinstance(tool.format, schemas.CustomInputGrammar)
        and tool.format.syntax != "regex"
    )


def check_kept(tools: Sequence[ReadTool]) -> None:
    """Raises UnsupportedValue for a call that must be made, and cannot be held to the format of its tool."""
    for tool in tools:
        if tool.is_unkept:
            place = tool.callable.where
            raise UnsupportedValue(
                f"{place}.format is a grammar in Lark, to which a call that tool_choice insists on cannot be held; use "
                "a regex, or leave the choice to the model",
                param=f"{place}.format.syntax",
            )


def specific_choice(choice: schemas.ToolChoiceObject, tools: Sequence[ReadTool]) -> tuple[Mode, list[ReadTool]]:
    """The mode, and the tools that may be called."""
    check_hosted(choice)
    if isinstance(choice, schemas.ResponseAllowedTools):
        return choice.mode, allowed(choice, tools)
    if not isinstance(choice, schemas.HostedToolChoice):
        return "named", [the_one(choice.name, choice.type, tools, "tool_choice.name")]
    raise TypeError("hosted tools have been refused")


def the_one(name: str, kind: str, tools: Sequence[ReadTool], param: str) -> ReadTool:
    """The tool of this kind that a choice names, with its namespace or, where that is clear, without."""
    fitting = [tool for tool in tools if tool.known.kind == kind]
    for tool in fitting:
        if tool.callable.name == name:
            return tool
    bare = [tool for tool in fitting if tool.known.name == name]
    if len(bare) != 1:
        check_known(name, [tool.callable for tool in fitting] or [tool.callable for tool in tools], param=param)
        raise InvalidParameterCombination(
            f"{param} is {name[:80]!r}, which is no {kind} tool; choose it by its own kind", param=param
        )
    return bare[0]


def allowed(choice: schemas.ResponseAllowedTools, tools: Sequence[ReadTool]) -> list[ReadTool]:
    """Those that are listed and run here. Raises UnsupportedValue when there are none."""
    place = "tool_choice.tools"
    found: dict[str, ReadTool] = {}
    for at, entry in enumerate(choice.tools):
        kind, name = entry.get("type"), entry.get("name")
        if kind not in ("function", "custom"):
            continue
        if not isinstance(name, str):
            raise UnsupportedValue(f'{place}.{at} must be {{"type": "{kind}", "name": …}}', param=f"{place}.{at}")
        tool = the_one(name, kind, tools, f"{place}.{at}.name")
        found[tool.callable.name] = tool
    if not found:
        raise UnsupportedValue(f"{place} names no tool that runs here; name at least one, or choose none", param=place)
    return list(found.values())
