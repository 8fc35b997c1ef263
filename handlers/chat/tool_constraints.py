"""Forced tool calls: the JSON schema an answer must follow so that it is calls, and the reader of such an answer.

A named tool: the answer is its arguments. Any tool: an array of `{"name": …, "parameters": {…}}`, the name first,
so that a client learns it before the arguments are written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from specserve.engine.grammar_spec import GrammarSpec
from specserve.generated.errors import InvalidValue
from specserve.handlers.chat.json_calls import ARGUMENTS, NAME, ArrayCallsReader, CallReader, NamedCallReader, NewId
from specserve.handlers.grammars import GrammarChecker

Schema = dict[str, Any]
Mode = Literal["none", "auto", "required", "named"]
NOT_SCHEMAS = frozenset(["const", "enum", "default", "examples"])


@dataclass(frozen=True, slots=True, kw_only=True)
class CallableTool:
    """`where` is its place in the request, for errors."""

    name: str
    parameters: Schema | None
    strict: bool
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """The tools an answer may call, and whether it must. With mode `named` there is one tool."""

    mode: Mode = "none"
    tools: Sequence[CallableTool] = ()
    parallel: bool = True

    @property
    def is_forced(self) -> bool:
        return self.mode in ("required", "named")

    def reader(self, index: int, new_id: NewId) -> CallReader:
        """Reads choice `index` of a forced answer."""
        if self.mode == "named":
            return NamedCallReader(index, self.tools[0].name, new_id)
        return ArrayCallsReader(index, new_id)


async def checked_calls(use: ToolUse, checker: GrammarChecker) -> tuple[GrammarSpec, list[str]]:
    """The constraint of a forced answer, and pointers to the keywords of tools that are not strict which it leaves out.

    Every tool is checked by itself, so that an error points into its own parameters. Raises InvalidValue naming
    parameters that are no object's, and what the checker raises.
    """
    widened: list[str] = []
    for tool in use.tools:
        param = f"{tool.where}.parameters"
        spec = GrammarSpec(kind="json_schema", source=as_text(arguments_schema(tool)), strict=tool.strict)
        checked = await checker.check(spec, param=param)
        widened += [param + pointer for pointer in checked.widened]
    if use.mode == "required":
        source = as_text(calls_schema(use.tools, parallel=use.parallel))
        checked = await checker.check(GrammarSpec(kind="json_schema", source=source, strict=False), param="tools")
    return checked, widened


def as_text(schema: Schema) -> str:
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def arguments_schema(tool: CallableTool) -> Schema:
    """Arguments are always an object; a tool that names no parameters has none. Raises InvalidValue."""
    if tool.parameters is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    kind = tool.parameters.get("type", "object")
    if kind != "object" and kind != ["object"]:
        raise InvalidValue(
            f"{tool.where}.parameters describes a value of type {str(kind)[:80]}; arguments are an object, "
            "so its type must be object",
            param=f"{tool.where}.parameters.type",
        )
    return {"type": "object", **tool.parameters}


def calls_schema(tools: Sequence[CallableTool], *, parallel: bool) -> Schema:
    """An array of at least one call. Raises InvalidValue."""
    definitions: Schema = {}
    calls: list[Schema] = []
    for number, tool in enumerate(tools):
        arguments = arguments_schema(tool)
        if refers_to_itself(arguments):
            place = f"tool_{number}"
            definitions[place] = moved(arguments, f"#/$defs/{place}")
            arguments = {"$ref": f"#/$defs/{place}"}
        calls.append(
            {
                "type": "object",
                "properties": {NAME: {"const": tool.name}, ARGUMENTS: arguments},
                "required": [NAME, ARGUMENTS],
                "additionalProperties": False,
            }
        )
    schema: Schema = {
        "type": "array",
        "minItems": 1,
        "items": calls[0] if len(calls) == 1 else {"anyOf": calls},
    }
    if not parallel:
        schema["maxItems"] = 1
    return schema | ({"$defs": definitions} if definitions else {})


def is_local(reference: object) -> bool:
    """`#` and `#/…`, which are counted from the root of the schema they stand in."""
    return isinstance(reference, str) and (reference == "#" or reference.startswith("#/"))


def refers_to_itself(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(refers_to_itself(item) for item in schema)
    if not isinstance(schema, dict):
        return False
    return is_local(schema.get("$ref")) or any(
        refers_to_itself(value) for key, value in schema.items() if key not in NOT_SCHEMAS
    )


def moved(schema: Any, root: str) -> Any:
    """The schema with its local references counted from `root`, the place it is moved to."""
    if isinstance(schema, list):
        return [moved(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: root + value[1:]
        if key == "$ref" and is_local(value)
        else value
        if key in NOT_SCHEMAS
        else moved(value, root)
        for key, value in schema.items()
    }
