"""The adapters of one model by name, and an engine that computes with one: routes need not know of them."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from specserve.engine.api import (
    Engine,
    GenerationOutput,
    GenerationRequest,
    ModelInfo,
    PoolingOutput,
    PoolingRequest,
    Tokenizer,
)
from specserve.engine.stats import EngineStats


class AdaptedEngine:
    """Implements `api.Engine`: `engine`, with the adapter in every request.

    Whoever answers with it holds it. When nobody does any more, the name being gone, the engine drops the adapter: so
    an answer ends with what it began with, however many requests it is made of.
    """

    def __init__(self, engine: Engine, adapter_id: int, path: str) -> None:
        self._engine = engine
        self._adapter_id = adapter_id
        self.path = path
        weakref.finalize(self, engine.drop_adapter, adapter_id).atexit = False

    @property
    def model(self) -> ModelInfo:
        return self._engine.model

    @property
    def tokenizer(self) -> Tokenizer:
        return self._engine.tokenizer

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]:
        return self._engine.generate(replace(request, adapter_id=self._adapter_id))

    async def pool(self, requests: Sequence[PoolingRequest]) -> list[PoolingOutput]:
        return await self._engine.pool([replace(request, adapter_id=self._adapter_id) for request in requests])

    async def load_adapter(self, name: str, path: str) -> int:
        return await self._engine.load_adapter(name, path)

    def drop_adapter(self, adapter_id: int) -> None:
        self._engine.drop_adapter(adapter_id)

    def stats(self) -> EngineStats:
        return self._engine.stats()

    def check_health(self) -> None:
        self._engine.check_health()


class ServedAdapters:
    """By name, in the order of loading; those of the start are there once the engine is."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._by_name: dict[str, AdaptedEngine] = {}

    def of(self, engine: Engine | None) -> dict[str, AdaptedEngine]:
        """The present ones of a model that `engine` computes. An engine that is new brings its own."""
        if engine is not None and engine is not self._engine:
            self._engine = engine
            self._by_name = {one.name: AdaptedEngine(engine, one.adapter_id, one.path) for one in engine.model.adapters}
        return self._by_name
