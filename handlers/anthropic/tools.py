"""What a request says about tools: those of the client become functions, those of Anthropic's servers are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from specserve.generated import schemas
from specserve.generated.errors import InvalidParameterCombination, MissingRequiredParameter, UnsupportedValue
from specserve.handlers.chat.conversation import Tool
from specserve.handlers.chat.tool_constraints import CallableTool, Mode, ToolUse, check_known, check_names
from specserve.handlers.unknown_fields import SAFE_NAME

SKIPPED_HEADER = "x-skipped-tools"
MAX_SKIPPED = 16
MODES: dict[str, Mode] = {"auto": "auto", "any": "required", "tool": "named", "none": "none"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTools:
    """`shown` are the tools the template gets; `skipped` names those that nobody here could run or describe."""

    shown: list[Tool] = field(default_factory=list)
    use: ToolUse = field(default_factory=ToolUse)
    skipped: list[str] = field(default_factory=list)

    def report(self, headers: dict[str, str]) -> None:
        names = [name for name in dict.fromkeys(self.skipped) if SAFE_NAME.fullmatch(name)]
        if names:
            headers[SKIPPED_HEADER] = ",".join(names[:MAX_SKIPPED])


def read_tools(body: schemas.MessagesPrompt, *, hide_unused: bool = False) -> MessageTools:
    """Raises InvalidParameterCombination, MissingRequiredParameter or UnsupportedValue naming the place at fault.

    `hide_unused`: with the choice none the model does not see the tools.
    """
    shown: list[Tool] = []
    callables: list[CallableTool] = []
    skipped: list[str] = []
    for at, tool in enumerate(body.tools or []):
        if isinstance(tool, schemas.ClientTool):
            shown.append(to_tool(tool))
            callables.append(to_callable(tool, f"tools.{at}"))
        elif tool.type == "custom":
            missing = "input_schema" if tool.name else "name"
            raise MissingRequiredParameter(f"tools.{at}.{missing} is required", param=f"tools.{at}.{missing}")
        else:
            skipped.append(tool.name or tool.type)
    check_names(callables)
    choice = body.tool_choice
    mode = MODES[choice.type] if choice is not None else "auto"
    if isinstance(choice, schemas.OneToolChoice):
        check_choice(choice, callables, skipped)
        callables = [tool for tool in callables if tool.name == choice.name]
    elif mode == "required" and not callables:
        left = f", since {', '.join(skipped[:10])} cannot be called here" if skipped else ""
        raise InvalidParameterCombination(
            f"tool_choice asks for a call, but there is no tool{left}; send tools, or leave tool_choice out",
            param="tool_choice",
        )
    if not callables:
        return MessageTools(skipped=skipped)
    if mode == "none" and hide_unused:
        shown = []
    parallel = not getattr(choice, "disable_parallel_tool_use", False)
    return MessageTools(shown=shown, use=ToolUse(mode=mode, tools=callables, parallel=parallel), skipped=skipped)


def to_tool(tool: schemas.ClientTool) -> Tool:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.input_schema
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def to_callable(tool: schemas.ClientTool, where: str) -> CallableTool:
    return CallableTool(
        name=tool.name,
        parameters=tool.input_schema,
        strict=bool(tool.strict),
        where=where,
        parameters_field="input_schema",
    )


def check_choice(choice: schemas.OneToolChoice, tools: Sequence[CallableTool], skipped: Sequence[str]) -> None:
    if choice.name in skipped:
        raise UnsupportedValue(
            f"tool_choice.name is {choice.name[:80]!r}, a tool that only Anthropic's servers have; choose another one",
            param="tool_choice.name",
        )
    if not tools:
        raise InvalidParameterCombination(
            "tool_choice names a tool, but there are none; send tools, or leave tool_choice out", param="tool_choice"
        )
    check_known(choice.name, tools, param="tool_choice.name")
