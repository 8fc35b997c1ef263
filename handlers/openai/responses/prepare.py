"""From the body of a request for a response to a prepared one: what only this protocol has is read and checked here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pydantic import TypeAdapter, ValidationError

from specserve.engine.api import ModelInfo
from specserve.generated import schemas
from specserve.generated.errors import (
    InvalidParameterCombination,
    InvalidPrompt,
    InvalidResponseState,
    InvalidValue,
    ResponseNotFound,
)
from specserve.handlers import fields
from specserve.handlers.answer_length import AskedLength
from specserve.handlers.chat.constraint import (
    Constraint,
    ConstraintOptions,
    only_one,
    structured_constraints,
)
from specserve.handlers.chat.conversation import Conversation, Message, template_variables
from specserve.handlers.chat.preparation import ChatPreparation, ChatRequest, PreparedChat
from specserve.handlers.context import RequestContext
from specserve.handlers.limits import Limits
from specserve.handlers.model_directory import ModelDirectory
from specserve.handlers.openai.messages import own_template
from specserve.handlers.openai.messages import to_messages as chat_to_messages
from specserve.handlers.openai.responses.conversation import to_messages
from specserve.handlers.openai.responses.items import Placed, ReadItems, read_items
from specserve.handlers.openai.responses.oldest import fitting
from specserve.handlers.openai.responses.store import ResponseStore, StoredResponse, items_of
from specserve.handlers.openai.responses.tools import Body, ResponseTools, read_tools
from specserve.handlers.sampling import AskedSampling, num_alternatives
from specserve.handlers.truncation import Truncation

LOGPROBS = "message.output_text.logprobs"
CALLS = (schemas.FunctionCallParam, schemas.CustomToolCallParam)
OUTPUTS = (schemas.FunctionCallOutputParam, schemas.CustomToolCallOutputParam)
CHAT_MESSAGES: TypeAdapter[list[schemas.ChatMessage]] = TypeAdapter(list[schemas.ChatMessage])


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedResponse:
    """A request that has passed every check. `chain` are the stored turns it continues, oldest first."""

    chat: PreparedChat
    conversation: Conversation
    items: ReadItems
    tools: ResponseTools
    chain: Sequence[StoredResponse]


class ResponsePreparation:
    def __init__(self, directory: ModelDirectory, chat: ChatPreparation, store: ResponseStore) -> None:
        self._directory, self._chat, self._store = directory, chat, store

    def with_store(self, store: ResponseStore) -> ResponsePreparation:
        return ResponsePreparation(self._directory, self._chat, store)

    async def prepare(self, body: schemas.ResponseRequest, context: RequestContext) -> PreparedResponse:
        """Raises what the contract lists as refusals."""
        fields.RESPONSE.check(body)
        check_stream(body)
        asked, items, tools, chain = await self._read(body, context)
        model = asked.served.engine.model
        asked = replace(
            asked,
            constraint=None if tools.use.is_forced else read_constraint(body),
            sampling=AskedSampling.of(body),
            length=AskedLength(body.max_output_tokens, "max_output_tokens"),
            num_logprobs=num_logprobs(body, self._chat.limits, model),
            truncation=read_truncation(body, model),
            max_thought=body.thinking_token_budget,
            cache_salt=body.cache_salt or "",
            priority=body.priority,
        )
        if tools.use.is_forced and body.structured_outputs is not None:
            raise InvalidParameterCombination(
                "structured_outputs constrains the answer, but tool_choice asks for a tool call instead; "
                "send one of them",
                param="structured_outputs",
            )
        try:
            if body.truncation == "auto":
                asked = await fitting(self._chat, asked, context)
            chat = await self._chat.prepare(asked, context)
            tools.report(context.response_headers)
        except InvalidPrompt as error:
            raise of_input(error) from error
        return PreparedResponse(chat=chat, conversation=asked.conversation, items=items, tools=tools, chain=chain)

    async def count(self, body: schemas.InputTokensRequest, context: RequestContext) -> int:
        """Tokens of the prompt. Raises what the contract lists as refusals."""
        fields.INPUT_TOKENS.check(body)
        asked, _, tools, _ = await self._read(body, context)
        tools.report(context.response_headers)
        try:
            if body.truncation == "auto":
                asked = await fitting(self._chat, asked, context)
            _, prompt = await self._chat.prompt(asked, context)
        except InvalidPrompt as error:
            raise of_input(error) from error
        return len(prompt)

    async def _read(
        self, body: Body, context: RequestContext
    ) -> tuple[ChatRequest, ReadItems, ResponseTools, Sequence[StoredResponse]]:
        """What both operations take: the conversation, and what the model sees of it."""
        options = self._chat.options
        served = self._directory.generator(body.model)
        before = earlier_messages(body)
        chain = await self._chain(body.previous_response_id, context)
        find = partial(self._store.item, context.owner)
        items = await read_items(body.input, items_of(chain), find, may_be_empty=bool(chain or before))
        if chain:
            check_outputs(items.items)
        at_most_one = isinstance(body, schemas.ResponseRequest) and body.max_tool_calls == 1
        tools = read_tools(body, hide_unused=options.hides_unused_tools, at_most_one=at_most_one)
        items.report(context.response_headers)
        chat_template = own_template(body, self._chat.prompts)
        conversation = Conversation(
            messages=to_messages(items.items, body.instructions, before),
            tools=tools.shown,
            documents=list(body.documents or []),
            template_kwargs=template_variables(
                body.chat_template_kwargs, None if body.reasoning is None else body.reasoning.effort
            ),
        )
        asked = ChatRequest(
            served=served,
            conversation=conversation,
            chat_template=chat_template,
            use=tools.use,
            sampling=AskedSampling(),
            length=AskedLength(None),
            param="input",
            add_special_tokens=body.add_special_tokens,
        )
        return asked, items, tools, chain

    async def _chain(self, previous: str | None, context: RequestContext) -> Sequence[StoredResponse]:
        """Raises ResponseNotFound, or InvalidResponseState for a response that is still being made."""
        if previous is None:
            return []
        chain = await self._store.chain(context.owner, previous)
        if chain is None:
            raise ResponseNotFound(
                f"previous_response_id is {previous[:80]!r}, but no such response is stored; send the whole "
                "conversation as input",
                param="previous_response_id",
            )
        if chain[-1].is_under_way:
            raise InvalidResponseState(
                f"response {previous[:80]} is still {chain[-1].status}; wait until it is complete",
                param="previous_response_id",
            )
        return chain


def check_outputs(items: Sequence[Placed]) -> None:
    """A conversation that goes on has all its calls in it. Raises InvalidValue for an output of another call."""
    calls = {one.item.call_id for one in items if isinstance(one.item, CALLS)}
    for placed in items:
        if isinstance(placed.item, OUTPUTS) and placed.item.call_id not in (None, *calls):
            place = f"{placed.place}.call_id"
            raise InvalidValue(
                f"{place} is {str(placed.item.call_id)[:80]!r}, but the conversation has no such call; send the "
                "call_id of a call in it, or leave it out for the last open one",
                param=place,
            )


def of_input(error: InvalidPrompt) -> InvalidPrompt:
    """What templates say of messages is about the input here."""
    return InvalidPrompt(error.message, param="input" if error.param == "messages" else error.param)


def check_stream(body: schemas.ResponseRequest) -> None:
    if body.stream_options is not None and not body.stream:
        raise InvalidParameterCombination("stream_options goes with stream: true only", param="stream_options")


def earlier_messages(body: Body) -> list[Message]:
    """`previous_input_messages` as messages of the conversation. Raises InvalidValue naming the first that is none."""
    sent = body.previous_input_messages if isinstance(body, schemas.ResponseRequest) else None
    if sent is None:
        return []
    if body.previous_response_id is not None:
        raise InvalidParameterCombination(
            "previous_input_messages and previous_response_id both say what came before; send one of them",
            param="previous_input_messages",
        )
    raw: list[Any] = [message.model_dump(by_alias=True, exclude_unset=True) for message in sent]
    try:
        return chat_to_messages(CHAT_MESSAGES.validate_python(raw))
    except ValidationError as error:
        at = error.errors(include_url=False)[0]["loc"][0]
        place = f"previous_input_messages.{at}"
        raise InvalidValue(
            f"{place} is no message; send them as input_messages of a former response gave them", param=place
        ) from None


def read_truncation(body: schemas.ResponseRequest, model: ModelInfo) -> Truncation:
    if body.truncate_prompt_tokens is not None and body.truncation == "auto":
        raise InvalidParameterCombination(
            "truncation: auto leaves whole items out, truncate_prompt_tokens cuts through them; send one of them",
            param="truncate_prompt_tokens",
        )
    return Truncation.of(body.truncate_prompt_tokens, body.truncation_side, model)


def num_logprobs(body: schemas.ResponseRequest, limits: Limits, model: ModelInfo) -> int | None:
    """Alternatives per token, None for no log probabilities at all. Asking for some turns them on."""
    if LOGPROBS not in (body.include or []) and not body.top_logprobs:
        return None
    return num_alternatives(body.top_logprobs or 0, limits.max_logprobs, model, param="top_logprobs")


def read_constraint(body: schemas.ResponseRequest) -> Constraint | None:
    """Raises InvalidParameterCombination for more than one constraint, InvalidConstraint for none where one is due."""
    outputs = body.structured_outputs or schemas.StructuredOutputs()
    if outputs.whitespace_pattern is not None and outputs.disable_any_whitespace:
        raise InvalidParameterCombination(
            "structured_outputs.whitespace_pattern and structured_outputs.disable_any_whitespace contradict each "
            "other; send one of them",
            param="structured_outputs.whitespace_pattern",
        )
    options = ConstraintOptions(
        any_whitespace=not outputs.disable_any_whitespace,
        whitespace_pattern=outputs.whitespace_pattern,
        additional_properties=not outputs.disable_additional_properties,
    )
    found = [*format_constraint(body.text, options), *structured_constraints(outputs, options)]
    constraint = only_one(found, body.structured_outputs)
    options.check_applies(found)
    return constraint


def format_constraint(text: schemas.TextOptions | None, options: ConstraintOptions) -> Iterator[Constraint]:
    match text and text.format:
        case schemas.ResponseFormatJsonObject():
            yield options.constraint("json_object", "", "text.format")
        case schemas.TextFormatJsonSchema() as asked:
            yield options.constraint("json_schema", asked.schema_, "text.format.schema", strict=bool(asked.strict))
