"""What a chat request says about tools, in its three spellings: tools with tool_choice, allowed tools, functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from specserve.generated import schemas
from specserve.generated.errors import InvalidParameterCombination, UnsupportedValue
from specserve.handlers.chat.conversation import KnownObject, Tool
from specserve.handlers.chat.tool_constraints import CallableTool, Mode, ToolUse, check_known, check_names


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTools:
    """`shown` are the tools the template gets. `is_legacy`: the answer is to have a function_call, not tool_calls."""

    shown: list[Tool]
    use: ToolUse
    is_legacy: bool = False


def read_tools(body: schemas.ChatCompletionRequest, *, hide_unused: bool = False) -> RequestTools:
    """Raises InvalidParameterCombination or UnsupportedValue naming the place at fault.

    `hide_unused`: with tool_choice none the model does not see the tools.
    """
    if body.functions is not None or body.function_call is not None:
        return read_functions(body)
    tools, callables = read_definitions(body.tools or [])
    choice = body.tool_choice
    if not tools:
        if choice not in (None, "none"):
            raise InvalidParameterCombination(
                "tool_choice says which tools to call, but there are none; send tools, or leave tool_choice out",
                param="tool_choice",
            )
        return RequestTools(shown=[], use=ToolUse())
    mode: Mode
    if choice is not None and not isinstance(choice, str):
        mode, names = specific_choice(choice, callables)
        tools = [tool for tool, known in zip(tools, callables, strict=True) if known.name in names or mode == "named"]
        callables = [known for known in callables if known.name in names]
    else:
        mode = choice or "auto"
    if mode == "none" and hide_unused:
        tools = []
    return RequestTools(shown=tools, use=ToolUse(mode=mode, tools=callables, parallel=body.parallel_tool_calls))


Definitions = tuple[list[Tool], list[CallableTool]]
MAX_KNOWN = 64
known_definitions: dict[tuple[int, ...], tuple[Sequence[schemas.Tool], Definitions]] = {}
"""What was read lately, by the identity of the tools, which lives as long as their entry: bodies share equal tools."""


def read_definitions(tools: Sequence[schemas.Tool]) -> Definitions:
    """Tools as templates and as constraints want them; new lists of what is shared by requests with the same tools."""
    key = tuple(map(id, tools))
    known = known_definitions.get(key)
    if known is None:
        shown = [to_tool(tool, f"tools.{at}") for at, tool in enumerate(tools)]
        callables = [
            callable_of(tool.function, f"tools.{at}.function")
            for at, tool in enumerate(tools)
            if isinstance(tool, schemas.FunctionTool)
        ]
        check_names(callables)
        known = known_definitions[key] = tools, (shown, callables)
        if len(known_definitions) > MAX_KNOWN:
            del known_definitions[next(iter(known_definitions))]
    shown, callables = known[1]
    return list(shown), list(callables)


def to_tool(tool: schemas.Tool, where: str) -> Tool:
    if not isinstance(tool, schemas.FunctionTool):
        raise UnsupportedValue(f"{where} is a {tool.type} tool; only function tools are offered", param=f"{where}.type")
    return KnownObject({"type": tool.type, "function": KnownObject(sent_fields(tool.function))})


def sent_fields(function: schemas.FunctionDefinition | schemas.LegacyFunction) -> dict[str, Any]:
    """As `model_dump(exclude_unset=True)`, but the parameters, which are plain JSON, are not copied."""
    sent = function.model_fields_set
    found = {name: value for name, value in vars(function).items() if name in sent}
    if function.parameters is not None:
        found["parameters"] = KnownObject(function.parameters)
    return found


def callable_of(function: schemas.FunctionDefinition | schemas.LegacyFunction, where: str) -> CallableTool:
    strict = isinstance(function, schemas.FunctionDefinition) and bool(function.strict)
    return CallableTool(name=function.name, parameters=function.parameters, strict=strict, where=where)


def specific_choice(choice: schemas.SpecificToolChoice, tools: Sequence[CallableTool]) -> tuple[Mode, set[str]]:
    """The mode, and the names of the tools that may be called."""
    if isinstance(choice, schemas.NamedToolChoice):
        check_known(choice.function.name, tools, param="tool_choice.function.name")
        return "named", {choice.function.name}
    if not isinstance(choice, schemas.AllowedToolsChoice):
        raise UnsupportedValue(
            f"tool_choice names a {choice.type} tool; only function tools are offered", param="tool_choice.type"
        )
    place = "tool_choice.allowed_tools.tools"
    if not choice.allowed_tools.tools:
        raise UnsupportedValue(f"{place} is empty; name at least one tool, or choose none", param=place)
    names: set[str] = set()
    for at, entry in enumerate(choice.allowed_tools.tools):
        function = entry.get("function", entry)
        name = function.get("name") if isinstance(function, dict) else None
        if entry.get("type", "function") != "function" or not isinstance(name, str):
            raise UnsupportedValue(
                f'{place}.{at} must be {{"type": "function", "function": {{"name": …}}}}', param=f"{place}.{at}"
            )
        check_known(name, tools, param=f"{place}.{at}.function.name")
        names.add(name)
    return choice.allowed_tools.mode, names


def read_functions(body: schemas.ChatCompletionRequest) -> RequestTools:
    """The form before tools: one call at most, nothing but auto, none and one name."""
    for name in ("tools", "tool_choice"):
        if getattr(body, name) is not None:
            raise InvalidParameterCombination(
                f"functions and function_call are the older form of {name}; use one of the two forms", param=name
            )
    functions, choice = body.functions or [], body.function_call
    if not functions:
        if choice in (None, "none"):
            return RequestTools(shown=[], use=ToolUse())
        raise InvalidParameterCombination(
            "function_call says which function to call, but there are none; send functions, or leave it out",
            param="function_call",
        )
    callables = [callable_of(function, f"functions.{at}") for at, function in enumerate(functions)]
    check_names(callables)
    mode: Mode
    if isinstance(choice, schemas.ToolName):
        check_known(choice.name, callables, param="function_call.name")
        mode, callables = "named", [tool for tool in callables if tool.name == choice.name]
    else:
        mode = choice or "auto"
    shown: list[Tool] = [{"type": "function", "function": sent_fields(function)} for function in functions]
    return RequestTools(shown=shown, use=ToolUse(mode=mode, tools=callables, parallel=False), is_legacy=True)
