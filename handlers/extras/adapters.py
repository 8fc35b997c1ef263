"""Load adapters while the server runs, and take them away again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from specserve.generated import schemas
from specserve.generated.errors import (
    AdapterNotFound,
    EndpointDisabled,
    MissingRequiredParameter,
    UnsupportedValue,
)
from specserve.generated.operations import AdaptersApi
from specserve.handlers import fields
from specserve.handlers.adapter_folders import allowed_folder
from specserve.handlers.context import RequestContext
from specserve.handlers.lora_modules import NAME, RULE
from specserve.handlers.model_directory import ModelDirectory, Source
from specserve.handlers.served_adapters import AdaptedEngine


class Adapters(AdaptersApi[RequestContext]):
    """Only where the operator has said from which folders (`allowed`) adapters may come.

    Changes are made one after the other; a name changes hands in one turn of the event loop.
    """

    def __init__(self, directory: ModelDirectory, allowed: Sequence[str] = (), max_loaded: int = 32) -> None:
        self._directory, self._allowed, self._max_loaded = directory, allowed, max_loaded
        self._turn = asyncio.Lock()

    async def load_lora_adapter(
        self, body: schemas.LoadAdapterRequest, context: RequestContext
    ) -> schemas.AdapterChange:
        fields.LOAD_ADAPTER.check(body)
        self._check_enabled()
        name = body.lora_name
        if NAME.fullmatch(name) is None:
            raise UnsupportedValue(f"lora_name {RULE}", param="lora_name")
        if name in self._directory.names:
            raise UnsupportedValue(f"{name} is the name of a model; choose another", param="lora_name")
        async with self._turn:
            source = self._source(body.base_model_name)
            owner = self._directory.owner_of_adapter(name)
            if owner is not None and not body.load_inplace:
                raise UnsupportedValue(
                    f"the adapter {name} is loaded already; unload it, or send load_inplace: true to replace it",
                    param="lora_name",
                )
            if owner is not None and owner is not source:
                raise UnsupportedValue(f"{name} is the name of an adapter of another model", param="lora_name")
            loaded = self._directory.adapters_of(source)
            if owner is None and len(loaded) >= self._max_loaded:
                raise UnsupportedValue(
                    f"{len(loaded)} adapters are loaded, the limit is {self._max_loaded} (--max-cpu-loras); "
                    "unload one first",
                    param="lora_name",
                )
            folder = str(await asyncio.to_thread(allowed_folder, body.lora_path, self._allowed))
            engine = self._directory.serve(source).engine
            adapter_id = await engine.load_adapter(name, folder)
            loaded[name] = AdaptedEngine(engine, adapter_id, folder)
        return schemas.AdapterChange(message=f"Success: LoRA adapter '{name}' added successfully.")

    async def unload_lora_adapter(
        self, body: schemas.UnloadAdapterRequest, context: RequestContext
    ) -> schemas.AdapterChange:
        fields.UNLOAD_ADAPTER.check(body)
        self._check_enabled()
        name = body.lora_name
        async with self._turn:
            owner = self._directory.owner_of_adapter(name)
            if owner is None or name not in self._directory.adapters_of(owner):
                raise AdapterNotFound(f"the adapter {name[:200]!r} is not loaded; GET /v1/models lists those that are")
            del self._directory.adapters_of(owner)[name]
        return schemas.AdapterChange(message=f"Success: LoRA adapter '{name}' removed successfully.")

    def _check_enabled(self) -> None:
        if not self._allowed:
            raise EndpointDisabled(
                "this server does not change its adapters while it runs; start it with --enable-lora and "
                "--lora-dir DIR, the folder that they may be loaded from"
            )

    def _source(self, base: str | None) -> Source:
        """The model an adapter is for. Raises what the directory raises for a name, and for none where many could."""
        if base:
            return self._directory.source_called(base)
        able = self._directory.sources_with_adapters()
        if len(able) == 1:
            return able[0]
        if not able:
            raise EndpointDisabled("no model of this server takes adapters; start it with --enable-lora")
        names = ", ".join(source.names[0] for source in able)
        raise MissingRequiredParameter(
            f"base_model_name is missing, and {len(able)} models could be meant: {names}", param="base_model_name"
        )
