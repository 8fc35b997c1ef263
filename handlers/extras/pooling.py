"""POST /pooling: whatever a model makes of texts; the path exists with and without /v1."""

from __future__ import annotations

from specserve.engine.api import ModelInfo
from specserve.engine.params import PoolingTask
from specserve.generated import schemas
from specserve.generated.base import Serialised
from specserve.generated.errors import UnsupportedParameter
from specserve.generated.operations import PoolingApi
from specserve.handlers import fields
from specserve.handlers.chat.prompts import Prompts
from specserve.handlers.context import RequestContext
from specserve.handlers.limits import Limits
from specserve.handlers.model_directory import ModelDirectory, ServedModel
from specserve.handlers.openai.pooling_inputs import PoolingInputs
from specserve.handlers.openai.pooling_reply import as_bytes, listed
from specserve.handlers.pooling.options import PoolingOptions
from specserve.handlers.pooling.run import PoolingIdentity, PoolingRun, check_answer_size
from specserve.handlers.pooling.tasks import DOING, check_dimensions, check_task, pools
from specserve.handlers.pooling.vectors import VectorFormat


class Pooling(PoolingApi[RequestContext]):
    def __init__(self, directory: ModelDirectory, prompts: Prompts, limits: Limits) -> None:
        self._directory, self._prompts, self._limits = directory, prompts, limits

    async def pool(
        self, body: schemas.PoolingRequest, context: RequestContext
    ) -> Serialised[schemas.PoolingResponse] | bytes:
        fields.POOLING.check(body)
        wanted = [DOING[PoolingTask(body.task)]] if body.task else [DOING[PoolingTask.EMBED], pools]
        served = self._directory.resolve(body.model, *wanted)
        model = served.engine.model
        task = task_of(body, served)
        dimensions = asked_dimensions(body, task, model)
        options = PoolingOptions.of(body, model)
        inputs = await PoolingInputs(served, self._prompts, options).read(body, context)
        size = (dimensions or model.embedding_size) if task.is_embedding else len(model.labels)
        check_answer_size(task, inputs, size, limit=self._limits.max_answer_numbers, param="input")
        run = PoolingRun(served.engine, PoolingIdentity.of("pooling", context, served), options)
        arrays = await run.pool(task, inputs, dimensions=dimensions)
        form = VectorFormat.of(body.encoding_format, body.embed_dtype, body.endianness)
        if form.is_binary:
            return await as_bytes(run, arrays, form, context)

        def entry(at: int, value: object) -> dict[str, object]:
            return {"index": at, "object": "pooling", "data": value}

        return Serialised(await listed(run, arrays, entry, form))

    async def pool_v1(
        self, body: schemas.PoolingRequest, context: RequestContext
    ) -> Serialised[schemas.PoolingResponse] | bytes:
        return await self.pool(body, context)


def task_of(body: schemas.PoolingRequest, served: ServedModel) -> PoolingTask:
    """What was asked for, else what the model is for. Raises UnsupportedTask."""
    offered = [task for task in served.engine.model.tasks if task in set(PoolingTask)]
    task = PoolingTask(body.task or (offered[0] if offered else PoolingTask.EMBED))
    check_task(served, task, param="task" if body.task else "model")
    return task


def asked_dimensions(body: schemas.PoolingRequest, task: PoolingTask, model: ModelInfo) -> int | None:
    """Raises UnsupportedParameter, UnsupportedValue."""
    if body.dimensions is not None and not task.is_embedding:
        raise UnsupportedParameter(
            f"dimensions is for embed and token_embed; what {task} makes cannot be shortened", param="dimensions"
        )
    return check_dimensions(body.dimensions, model, param="dimensions")
