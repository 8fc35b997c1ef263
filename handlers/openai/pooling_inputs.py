"""The inputs of embeddings, pooling and classes: texts, token ids, or conversations that the chat template writes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from specserve.generated import schemas
from specserve.generated.errors import InvalidParameterCombination, MissingRequiredParameter, UnsupportedValue
from specserve.handlers.chat.prompts import Prompts
from specserve.handlers.context import RequestContext
from specserve.handlers.model_directory import ServedModel
from specserve.handlers.openai.messages import own_template, to_conversation
from specserve.handlers.pooling.inputs import InputReader, ModelInput, places_of
from specserve.handlers.pooling.options import PoolingOptions
from specserve.handlers.pooling.prompts import with_prompt
from specserve.handlers.text_work import text_work

CHAT_FIELDS = frozenset("add_generation_prompt continue_final_message chat_template chat_template_kwargs".split())
"""What says how messages are written; texts are taken as they are."""


class InputFields(Protocol):
    """A request with the group InputExtras, and an input."""

    @property
    def input(self) -> schemas.PoolingInput | None: ...
    @property
    def messages(self) -> schemas.InputMessages | None: ...
    @property
    def add_special_tokens(self) -> bool | None: ...
    @property
    def add_generation_prompt(self) -> bool: ...
    @property
    def continue_final_message(self) -> bool: ...
    @property
    def chat_template(self) -> str | None: ...
    @property
    def chat_template_kwargs(self) -> dict[str, Any] | None: ...
    @property
    def model_fields_set(self) -> set[str]: ...


@dataclass(frozen=True, slots=True)
class PoolingInputs:
    """Reads the inputs of one request, cut as `options` say."""

    served: ServedModel
    prompts: Prompts
    options: PoolingOptions

    async def read(self, body: InputFields, context: RequestContext) -> list[ModelInput]:
        """Raises what the contract lists as refusals."""
        check_form(body)
        if body.chat_template is not None:  # it runs in a process of its own, which is waited for
            found = await asyncio.to_thread(self._read, body)
        else:
            found = await text_work(context, self._read, body)
        self.options.cut.report(context.response_headers)
        return found

    def _read(self, body: InputFields) -> list[ModelInput]:
        engine = self.served.engine
        reader = InputReader(engine.tokenizer, engine.model, self.options.cut)
        if body.messages is not None:
            conversations, is_list = conversations_of(body.messages)
            texts = [self._chat_text(body, one) for one in conversations]
            adds = bool(body.add_special_tokens)
            return reader.texts(texts, places=places_of("messages", is_list), add_special_tokens=adds)
        sent = body.input
        if isinstance(sent, str) or (sent and isinstance(sent[0], str)):
            given = [sent] if isinstance(sent, str) else sent
            texts = [with_prompt(text, engine.model) if text else text for text in given]
            adds = body.add_special_tokens is not False
            return reader.texts(texts, places=places_of("input", not isinstance(sent, str)), add_special_tokens=adds)
        if body.add_special_tokens:
            raise UnsupportedValue(
                "add_special_tokens is for texts; token ids are taken as they are", param="add_special_tokens"
            )
        is_one = isinstance(cast(list[Any], sent)[0], int)
        ids = cast(list[list[int]], [sent] if is_one else sent)
        return reader.tokens(ids, places=places_of("input", not is_one))

    def _chat_text(self, body: InputFields, messages: Sequence[schemas.ChatMessage]) -> str:
        names = {*CHAT_FIELDS & body.model_fields_set, "messages", "add_generation_prompt"}
        values = {name: getattr(body, name) for name in names} | {"messages": messages}
        request = schemas.ChatCompletionRequest.model_construct(names, **values)
        template = own_template(request, self.prompts)
        return self.prompts.text(self.served.engine.tokenizer, to_conversation(request), template)


def conversations_of(messages: schemas.InputMessages) -> tuple[list[list[schemas.ChatMessage]], bool]:
    """One or several, and whether they came as a list."""
    if isinstance(messages[0], list):
        return messages, True
    return [messages], False


def check_form(body: InputFields) -> None:
    """Raises MissingRequiredParameter, InvalidParameterCombination unless the body is either texts or conversations."""
    if body.input is None and body.messages is None:
        raise MissingRequiredParameter(
            "input is missing; send a text, token ids, a list of either, or messages", param="input"
        )
    if body.input is not None and body.messages is not None:
        raise InvalidParameterCombination("input and messages are both there; send one of them", param="messages")
    for name in sorted(CHAT_FIELDS & body.model_fields_set):
        if body.input is not None and getattr(body, name) not in (None, False):
            raise InvalidParameterCombination(f"{name} goes with messages only, not with input", param=name)
