"""The response as it is before anything is answered: what was asked for, as it is meant here."""

from __future__ import annotations

import time
from secrets import token_hex

from specserve.generated import schemas
from specserve.handlers.chat.preparation import PreparedChat
from specserve.handlers.context import SAFE_ID

PREFIX = "resp_"


def response_id(asked: str | None) -> str:
    """The body's own name for it, if it is safe, or a new one; ids that come with headers are repeated by proxies."""
    if asked is None or not SAFE_ID.fullmatch(asked):
        return PREFIX + token_hex(24)
    return asked if asked.startswith(PREFIX) else PREFIX + asked


def first_response(body: schemas.ResponseRequest, chat: PreparedChat, own_id: str) -> schemas.Response:
    """In progress, with everything in it that will not change."""
    params = chat.request.params
    return schemas.Response(
        id=own_id,
        object="response",
        created_at=int(time.time()),
        completed_at=None,
        status="in_progress",
        background=bool(body.background),
        conversation=None,
        error=None,
        incomplete_details=None,
        instructions=body.instructions,
        max_output_tokens=None if body.max_output_tokens is None else params.max_tokens,
        max_tool_calls=body.max_tool_calls,
        metadata=body.metadata or {},
        model=chat.served.name,
        output=[],
        parallel_tool_calls=body.parallel_tool_calls is not False,
        previous_response_id=body.previous_response_id,
        prompt=None,
        prompt_cache_key=body.prompt_cache_key,
        prompt_cache_retention=body.prompt_cache_retention,
        reasoning=echoed_reasoning(body.reasoning),
        safety_identifier=body.safety_identifier,
        service_tier="default",
        store=body.store is not False,
        temperature=params.temperature,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        text=echoed_text(body.text),
        tool_choice=body.tool_choice or "auto",
        tools=[echoed_tool(tool) for tool in body.tools or []],
        top_logprobs=params.logprobs or 0,
        top_p=params.top_p,
        truncation=body.truncation or "disabled",
        usage=None,
        user=body.user,
    )


def echoed_reasoning(sent: schemas.ReasoningOptions | None) -> schemas.ReasoningOptions:
    options = sent or schemas.ReasoningOptions()
    return options.model_copy(update={"effort": options.effort, "summary": options.summary})


def echoed_text(sent: schemas.TextOptions | None) -> schemas.TextOptions:
    options = sent or schemas.TextOptions()
    shape: schemas.TextFormat = options.format or schemas.ResponseFormatText(type="text")
    if isinstance(shape, schemas.TextFormatJsonSchema):
        shape = shape.model_copy(update={"description": shape.description, "strict": bool(shape.strict)})
    return options.model_copy(update={"format": shape, "verbosity": options.verbosity or "medium"})


def echoed_tool(tool: schemas.ResponseTool) -> schemas.ResponseTool:
    """Validators of clients want these fields, also where the request left them out."""
    if isinstance(tool, schemas.ResponseFunctionTool):
        fields = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
        return tool.model_copy(update=fields)
    if isinstance(tool, schemas.ResponseCustomTool):
        form = tool.format or schemas.CustomInputText(type="text")
        return tool.model_copy(update={"description": tool.description, "format": form})
    return tool
