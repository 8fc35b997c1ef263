"""Dry runs: what a request would ask the engine for, and what the chat template keeps from the model."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from specserve.engine.api import GenerationRequest
from specserve.engine.params import SamplingParams
from specserve.generated import schemas
from specserve.generated.operations import RenderApi
from specserve.handlers.chat.prompts import Prompts
from specserve.handlers.context import RequestContext
from specserve.handlers.openai.completions import Completions
from specserve.handlers.openai.prepare_chat import CompletionPreparation
from specserve.handlers.openai.reply import Identity

ALWAYS_TOLD = frozenset(["max_tokens", "temperature"])


class Render(RenderApi[RequestContext]):
    def __init__(self, chat: CompletionPreparation, completions: Completions, prompts: Prompts) -> None:
        self._chat, self._completions, self._prompts = chat, completions, prompts

    async def render_chat_completion(
        self, body: schemas.ChatCompletionRequest, context: RequestContext
    ) -> schemas.RenderedPrompt:
        prepared = await self._chat.prepare(body, context)
        chat = prepared.chat
        rendered = shown(prepared.identity, chat.request, chat.prompt_text, body)
        if not prepared.has_own_template:
            tokenizer = chat.served.engine.tokenizer
            found = await asyncio.to_thread(self._prompts.findings, tokenizer)
            rendered.chat_template = schemas.TemplateFindings(
                content_format=self._prompts.template(tokenizer).content_format,
                drops=found.drops,
                refuses=found.refuses,
            )
        return rendered

    async def render_completion(
        self, body: schemas.CompletionRequest, context: RequestContext
    ) -> schemas.RenderedPrompts:
        asked = await self._completions.prepare(body, context)
        decode = asked.served.engine.tokenizer.decode
        return schemas.RenderedPrompts(
            object="list",
            data=[
                shown(
                    asked.identity,
                    request,
                    decode(request.prompt_token_ids) if request.prompt_embeds is None else None,
                    body,
                )
                for request in asked.requests
            ],
        )


def shown(
    identity: Identity,
    request: GenerationRequest,
    text: str | None,
    body: schemas.ChatCompletionRequest | schemas.CompletionRequest,
) -> schemas.RenderedPrompt:
    return schemas.RenderedPrompt(
        request_id=identity.id,
        model=identity.model,
        prompt_text=text,
        token_ids=list(request.prompt_token_ids),
        sampling_params=told(request.params),
        stream=bool(body.stream),
        cache_salt=body.cache_salt,
        priority=body.priority,
        chat_template=None,
    )


def told(params: SamplingParams) -> dict[str, Any]:
    """What differs from the neutral values, by the engine's names."""
    neutral = {field.name: field.default for field in dataclasses.fields(params)}
    return {
        name: value
        for name, value in dataclasses.asdict(params).items()
        if name in ALWAYS_TOLD or (value != neutral[name] and value not in ((), {}, None))
    }
