"""An engine that answers at once, inside the API process, and a tokenizer that knows its answer beforehand.

What is left of a request with them is the protocol alone: routing, validation, template, checks, reply.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from specserve.engine.api import FinishReason, GenerationOutput, GenerationRequest, ModelInfo, Tokenizer
from specserve.engine.stats import EngineStats


class InstantTokenizer:
    """Every text has the ids given; all else is the tokenizer's own."""

    def __init__(self, tokenizer: Tokenizer, token_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._token_ids = list(token_ids)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return list(self._token_ids)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._tokenizer, name)
        self.__dict__[name] = value  # so that looking it up again costs what it does elsewhere
        return value


class FakeEngine:
    """Implements `api.Engine`: every request gets the same text and tokens, in one output."""

    def __init__(self, model: ModelInfo, tokenizer: Tokenizer, text: str, token_ids: Sequence[int]) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._text, self._token_ids = text, tuple(token_ids)
        self._stats = EngineStats()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]:
        yield GenerationOutput(
            request_id=request.request_id,
            index=request.index,
            text=self._text,
            token_ids=self._token_ids,
            finish_reason=FinishReason.STOP,
            num_prompt_tokens=len(request.prompt_token_ids),
        )

    def stats(self) -> EngineStats:
        return self._stats

    def check_health(self) -> None:
        """It cannot fail."""
