"""Forced tool calls: the JSON schema an answer must follow so that it is calls, and the reader of such an answer.

One call is `{"name": …, "parameters": {…}}`, several are an array of them. The name comes first, so that a client
learns it before the arguments are written, and also when there is only one tool: it leads the model on. The second
key is the one that the model was trained to write, where its template shows it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from specserve.engine.grammar_spec import GrammarSpec
from specserve.generated.errors import InvalidConstraint, InvalidParameterCombination
from specserve.handlers.chat.call_grammars.references import NOT_SCHEMAS, moved, refers_to_itself
from specserve.handlers.chat.json_calls import NAME, CallReader, NewId
from specserve.handlers.grammars import GrammarChecker

Schema = dict[str, Any]
Mode = Literal["none", "auto", "required", "named"]
WHITE_SPACE = " ?"
"""Between the parts of a call, as models have seen JSON printed. With more of it small models never come to an end."""
COMBINING = frozenset(
    """allOf if not dependentSchemas dependencies unevaluatedProperties $dynamicRef $recursiveRef""".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallableTool:
    """`where` is its place in the request, and `parameters_field` what the protocol calls the schema, for errors."""

    name: str
    parameters: Schema | None
    strict: bool
    where: str
    parameters_field: str = "parameters"

    @property
    def parameters_at(self) -> str:
        return f"{self.where}.{self.parameters_field}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """The tools an answer may call, and whether it must. With mode `named` there is one tool."""

    mode: Mode = "none"
    tools: Sequence[CallableTool] = ()
    parallel: bool = True
    arguments_key: str = "parameters"

    @property
    def is_forced(self) -> bool:
        return self.mode in ("required", "named")

    def reader(self, index: int, new_id: NewId) -> CallReader:
        """Reads choice `index` of a forced answer."""
        return CallReader(index, new_id, self.arguments_key, is_array=self.mode == "required")


def check_names(tools: Sequence[CallableTool]) -> None:
    """Two tools of one name could not be told apart."""
    seen: dict[str, str] = {}
    for tool in tools:
        if tool.name in seen:
            raise InvalidParameterCombination(
                f"{tool.where} is called {tool.name} like {seen[tool.name]}; every tool needs a name of its own",
                param=f"{tool.where}.name",
            )
        seen[tool.name] = tool.where


def check_known(name: str, tools: Sequence[CallableTool], *, param: str) -> None:
    if all(tool.name != name for tool in tools):
        known = ", ".join(tool.name for tool in tools[:10])
        raise InvalidParameterCombination(f"{param} is {name[:80]!r}, but the tools are {known}", param=param)


async def checked_calls(use: ToolUse, checker: GrammarChecker) -> tuple[GrammarSpec, list[str]]:
    """The constraint of a forced answer, and pointers to the keywords of tools that are not strict which it leaves out.

    Every tool is checked by itself, so that an error points into its own parameters. Raises InvalidConstraint naming
    parameters that are no object's, and what the checker raises.
    """
    widened: list[str] = []
    for tool in use.tools:
        param = tool.parameters_at
        checked = await checker.check(grammar_of(closed(arguments_schema(tool)), strict=tool.strict), param=param)
        widened += [param + pointer for pointer in checked.widened]
    schema = calls_schema(use)
    return await checker.check(grammar_of(schema, strict=False), param="tools"), widened


def grammar_of(schema: Schema, *, strict: bool) -> GrammarSpec:
    source = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    return GrammarSpec(kind="json_schema", source=source, strict=strict, whitespace_pattern=WHITE_SPACE)


def arguments_schema(tool: CallableTool) -> Schema:
    """Arguments are always an object; a tool that names no parameters has none. Raises InvalidConstraint."""
    if tool.parameters is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    kind = tool.parameters.get("type", "object")
    if kind != "object" and kind != ["object"]:
        raise InvalidConstraint(
            f"{tool.parameters_at} describes a value of type {str(kind)[:80]}; arguments are an object, "
            "so its type must be object",
            param=f"{tool.parameters_at}.type",
        )
    return {"type": "object", **tool.parameters}


def closed(schema: Any) -> Any:
    """The schema with no properties but those that objects name, where that leaves it satisfiable.

    Free properties are an invitation to invent arguments. Schemas that say of one object in several places what it
    has are left open: what one place names the other would forbid.
    """
    return with_closed_objects(schema) if can_be_closed(schema) else schema


def can_be_closed(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(map(can_be_closed, schema))
    if not isinstance(schema, dict):
        return True
    if COMBINING & schema.keys() or ("properties" in schema and {"anyOf", "oneOf", "$ref"} & schema.keys()):
        return False
    return all(can_be_closed(value) for key, value in schema.items() if key not in NOT_SCHEMAS)


def with_closed_objects(schema: Any) -> Any:
    if isinstance(schema, list):
        return [with_closed_objects(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: value if key in NOT_SCHEMAS else with_closed_objects(value) for key, value in schema.items()}
    is_open = not {"additionalProperties", "patternProperties"} & schema.keys()
    if isinstance(schema.get("properties"), dict) and schema["properties"] and is_open:
        found["additionalProperties"] = False
    return found


def calls_schema(use: ToolUse) -> Schema:
    """One call of the named tool, or an array of at least one call. Raises InvalidConstraint."""
    definitions: Schema = {}
    calls: list[Schema] = []
    for number, tool in enumerate(use.tools):
        arguments = closed(arguments_schema(tool))
        if refers_to_itself(arguments):
            place = f"tool_{number}"
            definitions[place] = moved(arguments, f"#/$defs/{place}")
            arguments = {"$ref": f"#/$defs/{place}"}
        calls.append(
            {
                "type": "object",
                "properties": {NAME: {"const": tool.name}, use.arguments_key: arguments},
                "required": [NAME, use.arguments_key],
                "additionalProperties": False,
            }
        )
    call = calls[0] if len(calls) == 1 else {"anyOf": calls}
    schema: Schema = call
    if use.mode != "named":
        schema = {"type": "array", "minItems": 1, "items": call} | ({} if use.parallel else {"maxItems": 1})
    return schema | ({"$defs": definitions} if definitions else {})
