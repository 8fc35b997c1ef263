"""Text and messages to token ids, token ids to text, and what the tokenizer is; each path with and without /v1."""

from __future__ import annotations

import asyncio

from specserve.engine.api import ModelInfo, Tokenizer
from specserve.generated import schemas
from specserve.generated.errors import (
    EndpointDisabled,
    InvalidParameterCombination,
    TokenOutOfVocabulary,
)
from specserve.generated.operations import TokenizationApi
from specserve.handlers import fields
from specserve.handlers.chat.prompts import Prompts
from specserve.handlers.context import RequestContext
from specserve.handlers.model_directory import ModelDirectory, is_generative
from specserve.handlers.openai.messages import own_template, to_conversation
from specserve.handlers.openai.tools import read_tools

CHAT_FIELDS = frozenset("add_generation_prompt continue_final_message tools chat_template chat_template_kwargs".split())
"""What says how messages are written; text is taken as it is."""


class Tokenization(TokenizationApi[RequestContext]):
    """Tokenizing runs in worker threads: text may be as long as a body.

    `shows_info` offers the tokenizer's configuration.
    """

    def __init__(self, directory: ModelDirectory, prompts: Prompts, *, shows_info: bool = False) -> None:
        self._directory, self._prompts, self._shows_info = directory, prompts, shows_info

    async def tokenize(self, body: schemas.TokenizeRequest, context: RequestContext) -> schemas.TokenizeResponse:
        fields.TOKENIZE.check(body)
        check_form(body)
        engine = self._directory.resolve(body.model, is_generative).engine
        return await asyncio.to_thread(self._tokens, body, engine.tokenizer, engine.model)

    async def tokenize_v1(self, body: schemas.TokenizeRequest, context: RequestContext) -> schemas.TokenizeResponse:
        return await self.tokenize(body, context)

    async def detokenize(self, body: schemas.DetokenizeRequest, context: RequestContext) -> schemas.DetokenizeResponse:
        fields.DETOKENIZE.check(body)
        engine = self._directory.resolve(body.model, is_generative).engine
        return await asyncio.to_thread(text_of, body, engine.tokenizer, engine.model)

    async def detokenize_v1(
        self, body: schemas.DetokenizeRequest, context: RequestContext
    ) -> schemas.DetokenizeResponse:
        return await self.detokenize(body, context)

    async def show_tokenizer_info(self, context: RequestContext) -> schemas.TokenizerInfo:
        if not self._shows_info:
            raise EndpointDisabled(
                "this server does not show its tokenizer; start it with --enable-tokenizer-info-endpoint"
            )
        tokenizer = self._directory.first().engine.tokenizer
        about = {"tokenizer_class": None, "eos_token": None} | dict(tokenizer.configuration) | tokenizer.special_tokens
        template = self._prompts.options.chat_template or tokenizer.chat_template
        return schemas.TokenizerInfo.model_validate(about | {"chat_template": template})

    async def show_tokenizer_info_v1(self, context: RequestContext) -> schemas.TokenizerInfo:
        return await self.show_tokenizer_info(context)

    def _tokens(
        self, body: schemas.TokenizeRequest, tokenizer: Tokenizer, model: ModelInfo
    ) -> schemas.TokenizeResponse:
        text = body.prompt if body.prompt is not None else self._chat_text(body, tokenizer)
        adds = body.add_special_tokens if body.add_special_tokens is not None else body.prompt is not None
        token_ids = tokenizer.encode(text, add_special_tokens=adds)
        names = [tokenizer.vocabulary_entry(token_id) or "" for token_id in token_ids]
        return schemas.TokenizeResponse(
            count=len(token_ids),
            max_model_len=model.max_model_len,
            tokens=token_ids,
            token_strs=names if body.return_token_strs else None,
        )

    def _chat_text(self, body: schemas.TokenizeRequest, tokenizer: Tokenizer) -> str:
        """What the model would see of a chat request with the same fields."""
        request = chat_request(body)
        template = own_template(request, self._prompts)
        return self._prompts.text(tokenizer, to_conversation(request, read_tools(request).shown), template)


def check_form(body: schemas.TokenizeRequest) -> None:
    """Raises InvalidParameterCombination unless the body is either text or a conversation."""
    if (body.prompt is None) == (body.messages is None):
        sent = "neither is there" if body.prompt is None else "both are there"
        raise InvalidParameterCombination(f"either prompt or messages is tokenized, and {sent}", param="prompt")
    meant_for_chat = sorted(CHAT_FIELDS & body.model_fields_set)
    if body.prompt is not None and meant_for_chat:
        name = meant_for_chat[0]
        if getattr(body, name) not in (None, schemas.TokenizeRequest.model_fields[name].default):
            raise InvalidParameterCombination(f"{name} goes with messages only, not with prompt", param=name)


def chat_request(body: schemas.TokenizeRequest) -> schemas.ChatCompletionRequest:
    """The chat request that shares the fields about the prompt, as far as they were sent."""
    names = {*CHAT_FIELDS, "messages"} & body.model_fields_set
    return schemas.ChatCompletionRequest.model_construct(names, **{name: getattr(body, name) for name in names})


def text_of(body: schemas.DetokenizeRequest, tokenizer: Tokenizer, model: ModelInfo) -> schemas.DetokenizeResponse:
    """Raises TokenOutOfVocabulary."""
    num_ids = max(tokenizer.vocab_size, model.vocab_size)
    for place, token_id in enumerate(body.tokens):
        if token_id >= num_ids:
            raise TokenOutOfVocabulary(
                f"token id {token_id} is not in the vocabulary; ids go from 0 to {num_ids - 1}", param=f"tokens.{place}"
            )
    return schemas.DetokenizeResponse(prompt=tokenizer.decode(body.tokens))
