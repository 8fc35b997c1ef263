"""An engine whose model is a table of random rows: what it makes of a text depends on its tokens alone.

Its tokenizer is a trained WordPiece as BERT has it, or byte-level BPE as decoders have it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import trained_tokenizers
from fake_engine import FakeEngine
from numpy.typing import NDArray

from specserve.engine.api import (
    GenerationOutput,
    GenerationRequest,
    ModelInfo,
    PoolingOutput,
    PoolingRequest,
    Tokenizer,
)
from specserve.engine.errors import EngineError
from specserve.engine.params import PoolingTask
from specserve.engine.stats import EngineStats
from specserve.engine.tokenizer import load_tokenizer

SIZE = 16
MAX_MODEL_LEN = 40


@cache
def tokenizer_of(kind: str) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        return load_tokenizer(trained_tokenizers.KINDS[kind](Path(folder)))


@dataclass
class FakePooling:
    """Implements `api.Engine` for every task. `about` are fields of ModelInfo.

    pause_s   before an answer
    refusal   raised instead of one
    """

    about: dict[str, Any] = field(default_factory=dict)
    kind: str = "word_piece"
    pause_s: float = 0.0
    refusal: EngineError | None = None
    calls: list[list[PoolingRequest]] = field(default_factory=list)
    num_cancelled: int = 0

    def __post_init__(self) -> None:
        self.tokenizer = tokenizer_of(self.kind)
        numbers = np.random.default_rng(7)
        self.rows = numbers.normal(size=(self.tokenizer.vocab_size, SIZE)).astype(np.float32)
        self.classes = numbers.normal(size=(SIZE, 8)).astype(np.float32)

    @property
    def model(self) -> ModelInfo:
        plain = replace(
            FakeEngine(max_model_len=MAX_MODEL_LEN).model,
            vocab_size=self.tokenizer.vocab_size,
            tasks=("embed",),
            embedding_size=SIZE,
            has_token_types=True,
        )
        return replace(plain, **self.about)

    @property
    def requests(self) -> list[PoolingRequest]:
        return [request for call in self.calls for request in call]

    async def pool(self, requests: Sequence[PoolingRequest]) -> list[PoolingOutput]:
        self.calls.append(list(requests))
        try:
            await asyncio.sleep(self.pause_s)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if self.refusal is not None:
            raise self.refusal
        return [
            PoolingOutput(
                request_id=request.request_id,
                data=self.data(request),
                num_prompt_tokens=len(request.prompt_token_ids),
                num_cached_tokens=1 if len(request.prompt_token_ids) > 8 else 0,
            )
            for request in requests
        ]

    def data(self, request: PoolingRequest) -> NDArray[np.float32]:
        task, is_activated = request.params.task, request.params.use_activation is not False
        rows = self.rows[list(request.prompt_token_ids)]
        if request.token_type_ids is not None:
            rows = rows + 0.1 * np.asarray(request.token_type_ids, dtype=np.float32)[:, None]
        if task in (PoolingTask.EMBED, PoolingTask.CLASSIFY):
            rows = rows.mean(axis=0)
        if task.is_embedding:
            rows = rows[..., : request.params.dimensions or SIZE]
            if is_activated:
                rows = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
        else:
            rows = rows @ self.classes[:, : len(self.model.labels)]
            if is_activated:
                rows = softmax(rows) if len(self.model.labels) > 1 else 1 / (1 + np.exp(-rows))
        return np.ascontiguousarray(rows, dtype=np.float32)

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]:
        raise AssertionError("nothing generates here")

    def stats(self) -> EngineStats:
        return EngineStats()

    def check_health(self) -> None:
        """It is always well."""


def softmax(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(rows - rows.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def embedder(**about: Any) -> FakePooling:
    return FakePooling(about)


def cross_encoder(**about: Any) -> FakePooling:
    return FakePooling({"tasks": ("classify",), "labels": ("LABEL_0",), "embedding_size": 0} | about)


def classifier(**about: Any) -> FakePooling:
    return FakePooling({"tasks": ("classify",), "labels": ("bad", "fair", "good"), "embedding_size": 0} | about)
