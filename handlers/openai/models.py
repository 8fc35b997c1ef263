"""GET /v1/models and GET /v1/models/{model}."""

from __future__ import annotations

import time

from specserve.generated import schemas
from specserve.generated.errors import ModelNotFound
from specserve.generated.operations import ModelsApi
from specserve.handlers.context import RequestContext
from specserve.handlers.model_directory import ModelDirectory


class Models(ModelsApi[RequestContext]):
    """Every served name is a model of its own, also before its first use. Models that no longer work are not listed."""

    def __init__(self, directory: ModelDirectory) -> None:
        self._directory = directory
        self._created = int(time.time())

    async def list_models(self, context: RequestContext) -> schemas.ModelList:
        names = (*self._directory.listed_names, *self._directory.adapter_names)
        return schemas.ModelList(object="list", data=[self._describe(name) for name in names])

    async def retrieve_model(self, model: str, context: RequestContext) -> schemas.Model:
        return self._describe(model)

    def _describe(self, name: str) -> schemas.Model:
        """Raises ModelNotFound, also for a model that no longer works."""
        if name in self._directory.names and name not in self._directory.listed_names:
            raise ModelNotFound(f"the model {name} does not work; the server has to be restarted for it", param="model")
        owner = self._directory.owner_of_adapter(name)
        model = self._directory.info(name)
        return schemas.Model(
            id=name,
            object="model",
            created=self._created,
            owned_by="specserve",
            root=model.path if owner is None else self._directory.adapters_of(owner)[name].path,
            parent=None if owner is None else owner.names[0],
            max_model_len=model.max_model_len,
            tasks=list(model.tasks),
            permission=[
                schemas.ModelPermission(
                    id=f"modelperm-{name}",
                    object="model_permission",
                    created=self._created,
                    allow_create_engine=False,
                    allow_sampling=True,
                    allow_logprobs=True,
                    allow_search_indices=False,
                    allow_view=True,
                    allow_fine_tuning=False,
                    organization="*",
                    group=None,
                    is_blocking=False,
                )
            ],
        )
