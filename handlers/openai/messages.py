"""Wire messages and tools to the neutral conversation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from specserve.generated import schemas
from specserve.generated.base import ApiModel
from specserve.generated.errors import InvalidParameterCombination, UnsupportedValue
from specserve.handlers.chat.conversation import Conversation, Message, Tool
from specserve.handlers.chat.template import RESERVED


def to_conversation(body: schemas.ChatCompletionRequest) -> Conversation:
    """Raises UnsupportedValue naming the place of a part, tool or choice the server cannot use.

    `add_generation_prompt` is on by default, so only a request that asks for it by name contradicts
    `continue_final_message`: InvalidParameterCombination.
    """
    kwargs = dict(body.chat_template_kwargs or {})
    reserved = sorted(RESERVED & kwargs.keys())
    if reserved:
        raise UnsupportedValue(
            f"chat_template_kwargs may not set {', '.join(reserved)}; the server does",
            param=f"chat_template_kwargs.{reserved[0]}",
        )
    if body.continue_final_message and body.add_generation_prompt and "add_generation_prompt" in body.model_fields_set:
        raise InvalidParameterCombination(
            "continue_final_message goes on in the last message, add_generation_prompt begins a new one; choose one",
            param="continue_final_message",
        )
    if "audio" in (body.modalities or []):
        raise UnsupportedValue("modalities takes text; audio is not offered by this server yet", param="modalities")
    if body.reasoning_effort is not None:
        kwargs = {
            "reasoning_effort": body.reasoning_effort,
            "enable_thinking": body.reasoning_effort != "none",
        } | kwargs
    if body.tool_choice not in (None, "none", "auto"):
        raise UnsupportedValue(
            "tool_choice takes none and auto; forced and allowed tools are not offered by this server yet",
            param="tool_choice",
        )
    return Conversation(
        messages=[to_message(message, f"messages.{at}") for at, message in enumerate(body.messages)],
        tools=[to_tool(tool, f"tools.{at}") for at, tool in enumerate(body.tools or [])],
        documents=list(body.documents or []),
        template_kwargs=kwargs,
        add_generation_prompt=body.add_generation_prompt,
        continue_final_message=body.continue_final_message,
    )


def to_tool(tool: schemas.Tool, where: str) -> Tool:
    if not isinstance(tool, schemas.FunctionTool):
        raise UnsupportedValue(f"{where} is a {tool.type} tool; only function tools are offered", param=f"{where}.type")
    return tool.model_dump(exclude_unset=True)


def to_message(message: schemas.ChatMessage, where: str) -> Message:
    found: Message = {"role": message.role, "content": message.content}
    if isinstance(message.content, list):
        parts = enumerate(message.content)
        found["content"] = [text_part(part, f"{where}.content.{at}") for at, part in parts]
    for name in ("name", "tool_call_id", "reasoning", "reasoning_content"):
        if getattr(message, name, None) is not None:
            found[name] = getattr(message, name)
    if isinstance(message, schemas.AssistantMessage):
        # Templates read one of the two names of reasoning.
        thought = message.reasoning or message.reasoning_content
        if thought is not None:
            found |= {"reasoning": thought, "reasoning_content": thought}
        if message.tool_calls:
            found["tool_calls"] = to_tool_calls(message.tool_calls, where)
    return found


def text_part(part: ApiModel, where: str) -> dict[str, str]:
    if isinstance(part, schemas.TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, schemas.RefusalPart):
        return {"type": "text", "text": part.refusal}
    kind = getattr(part, "type", type(part).__name__)
    raise UnsupportedValue(f"{where} is a part of type {kind}, but this model reads text only", param=f"{where}.type")


def to_tool_calls(calls: Sequence[schemas.ToolCall], where: str) -> list[dict[str, Any]]:
    """Arguments become objects, as templates expect; a text that is no JSON object stays as the model wrote it."""
    found = []
    for at, call in enumerate(calls):
        if not isinstance(call, schemas.FunctionToolCall):
            raise UnsupportedValue(
                f"{where}.tool_calls.{at} is a {call.type} call; only function calls are offered",
                param=f"{where}.tool_calls.{at}.type",
            )
        arguments: Any = call.function.arguments
        try:
            parsed = json.loads(arguments)
        except (ValueError, RecursionError):
            parsed = None
        function = {"name": call.function.name, "arguments": parsed if isinstance(parsed, dict) else arguments}
        found.append({"id": call.id, "type": "function", "function": function})
    return found
