"""Dry runs: what a request would ask the engine for, and what the chat template keeps from the model."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from specserve.engine.params import SamplingParams
from specserve.generated import schemas
from specserve.generated.operations import RenderApi
from specserve.handlers.chat.prompts import Prompts
from specserve.handlers.context import RequestContext
from specserve.handlers.openai.prepare_chat import ChatPreparation

ALWAYS_TOLD = frozenset(["max_tokens", "temperature"])


class Render(RenderApi[RequestContext]):
    def __init__(self, chat: ChatPreparation, prompts: Prompts) -> None:
        self._chat, self._prompts = chat, prompts

    async def render_chat_completion(
        self, body: schemas.ChatCompletionRequest, context: RequestContext
    ) -> schemas.RenderedPrompt:
        chat = await self._chat.prepare(body, context)
        findings = None
        if not chat.has_own_template:
            tokenizer = chat.served.engine.tokenizer
            found = await asyncio.to_thread(self._prompts.findings, tokenizer)
            findings = schemas.TemplateFindings(
                content_format=self._prompts.template(tokenizer).content_format,
                drops=found.drops,
                refuses=found.refuses,
            )
        return schemas.RenderedPrompt(
            request_id=chat.identity.id,
            model=chat.identity.model,
            prompt_text=chat.prompt_text,
            token_ids=chat.prompt,
            sampling_params=told(chat.request.params),
            stream=bool(body.stream),
            cache_salt=body.cache_salt,
            priority=body.priority,
            chat_template=findings,
        )


def told(params: SamplingParams) -> dict[str, Any]:
    """What differs from the neutral values, by the engine's names."""
    neutral = {field.name: field.default for field in dataclasses.fields(params)}
    return {
        name: value
        for name, value in dataclasses.asdict(params).items()
        if name in ALWAYS_TOLD or (value != neutral[name] and value not in ((), {}, None))
    }
