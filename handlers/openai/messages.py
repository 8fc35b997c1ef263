"""Wire messages to the neutral conversation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from specserve.generated import schemas
from specserve.generated.base import ApiModel
from specserve.generated.errors import InvalidParameterCombination, UnsupportedValue
from specserve.handlers.chat.conversation import Conversation, Message, Tool, template_variables
from specserve.handlers.chat.prompts import Prompts

WithTemplate = schemas.ChatCompletionRequest | schemas.ResponseRequest | schemas.InputTokensRequest

NUM_PLAIN = 2
"""Fields of a message that has nothing but its role and content, as most do."""
COPIED = frozenset(["name", "tool_call_id", "reasoning", "reasoning_content"])
"""Fields of messages that templates know by the same name; not every kind of message has them."""


def to_conversation(body: schemas.ChatCompletionRequest, tools: Sequence[Tool] = ()) -> Conversation:
    """Raises UnsupportedValue naming the place of a part or variable the server cannot use.

    `add_generation_prompt` is on by default, so only a request that asks for it by name contradicts
    `continue_final_message`: InvalidParameterCombination.
    """
    variables = template_variables(body.chat_template_kwargs, body.reasoning_effort)
    if body.continue_final_message and body.add_generation_prompt and "add_generation_prompt" in body.model_fields_set:
        raise InvalidParameterCombination(
            "continue_final_message goes on in the last message, add_generation_prompt begins a new one; choose one",
            param="continue_final_message",
        )
    if "audio" in (body.modalities or []):
        raise UnsupportedValue("modalities takes text; audio is not offered by this server yet", param="modalities")
    return Conversation(
        messages=to_messages(body.messages),
        tools=list(tools),
        documents=list(body.documents or []),
        template_kwargs=variables,
        add_generation_prompt=body.add_generation_prompt and not body.continue_final_message,
        continue_final_message=body.continue_final_message,
    )


def own_template(body: WithTemplate, prompts: Prompts) -> str | None:
    """The request's own template, from the field or, as some clients send it, from among its variables.

    It is taken out of the variables. Raises UnsupportedParameter where templates of requests are not trusted.
    """
    kwargs = body.chat_template_kwargs or {}
    if "chat_template" not in kwargs:
        if body.chat_template is not None:
            prompts.check_trust(param="chat_template")
        return body.chat_template
    place = "chat_template_kwargs.chat_template"
    prompts.check_trust(param=place)
    template = kwargs["chat_template"]
    if not isinstance(template, str):
        raise UnsupportedValue(f"{place} must be the text of a template", param=place)
    if body.chat_template is not None:
        raise InvalidParameterCombination(f"chat_template and {place} are both given; send one", param=place)
    body.chat_template_kwargs = {name: value for name, value in kwargs.items() if name != "chat_template"}
    return template


def to_messages(messages: Sequence[schemas.ChatMessage]) -> list[Message]:
    """Raises UnsupportedValue naming the place of a part or call the server cannot use.

    Calls and results in the form before tools become tool calls: the result of a function belongs to the last call.
    """
    found: list[Message] = []
    function_call_id = ""
    for at, message in enumerate(messages):
        fields = vars(message)  # quicker than attributes of a schema
        if len(message.__pydantic_fields_set__) == NUM_PLAIN and isinstance(fields["content"], str):
            found.append({"role": fields["role"], "content": fields["content"]})
            continue
        if message.role == "function":
            found.append(
                {
                    "role": "tool",
                    "tool_call_id": function_call_id,
                    "name": message.name,
                    "content": message.content or "",
                }
            )
            continue
        made = to_message(message, f"messages.{at}")
        if message.role == "assistant" and message.function_call and not message.tool_calls:
            function_call_id = f"call_{at}"
            call = message.function_call
            made["tool_calls"] = [earlier_call(function_call_id, call.name, call.arguments)]
        found.append(made)
    return found


def to_message(message: schemas.ChatMessage, where: str) -> Message:
    fields = vars(message)
    found: Message = {"role": fields["role"], "content": fields["content"]}
    if isinstance(message.content, list):
        found["content"] = read_parts(message.content, where, found)
    for name in COPIED & message.__pydantic_fields_set__:
        if fields[name] is not None:
            found[name] = fields[name]
    if message.role == "tool" and isinstance(found["content"], list):
        found["content"] = "\n".join(part["text"] for part in found["content"])
    if message.role == "assistant":
        if message.content is None and message.refusal is not None:
            found["content"] = message.refusal
        if message.audio is not None:
            raise UnsupportedValue(
                f"{where}.audio names an earlier spoken answer, but this server keeps none; send its text as content",
                param=f"{where}.audio",
            )
        # Templates read one of the two names of reasoning.
        thought = message.reasoning or message.reasoning_content or found.get("reasoning")
        if thought is not None:
            found |= {"reasoning": thought, "reasoning_content": thought}
        if message.tool_calls:
            found["tool_calls"] = to_tool_calls(message.tool_calls, where)
    return found


def read_parts(parts: Sequence[ApiModel], where: str, message: Message) -> list[dict[str, str]] | None:
    """Text parts; thoughts among them go into the message's `reasoning`. None when there was nothing else."""
    texts: list[dict[str, str]] = []
    thoughts: list[str] = []
    for at, part in enumerate(parts):
        if isinstance(part, schemas.ThinkingPart):
            thoughts.append(part.thinking)
        else:
            texts.append(text_part(part, f"{where}.content.{at}"))
    if thoughts:
        message["reasoning"] = "\n".join(thoughts)
    return texts or None


def text_part(part: ApiModel, where: str) -> dict[str, str]:
    if isinstance(part, schemas.TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, schemas.RefusalPart):
        return {"type": "text", "text": part.refusal}
    kind = getattr(part, "type", type(part).__name__)
    raise UnsupportedValue(f"{where} is a part of type {kind}, but this model reads text only", param=f"{where}.type")


def to_tool_calls(calls: Sequence[schemas.EarlierToolCall], where: str) -> list[dict[str, Any]]:
    found = []
    for at, call in enumerate(calls):
        if not isinstance(call, schemas.EarlierFunctionToolCall):
            raise UnsupportedValue(
                f"{where}.tool_calls.{at} is a {call.type} call; only function calls are offered",
                param=f"{where}.tool_calls.{at}.type",
            )
        found.append(earlier_call(call.id, call.function.name, call.function.arguments))
    return found


def read_json(text: str) -> object:
    """None for what is no JSON. The quicker reader refuses some of what Python's takes, such as lone surrogates."""
    try:
        return from_json(text)
    except ValueError:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return None


def earlier_call(call_id: str, name: str, arguments: str | dict[str, Any] | None) -> dict[str, Any]:
    """Arguments become objects, as templates expect; a text that is no JSON object stays as the model wrote it."""
    if arguments is None or arguments == "":
        arguments = {}
    if isinstance(arguments, str):
        parsed = read_json(arguments)
        arguments = parsed if isinstance(parsed, dict) else arguments
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
