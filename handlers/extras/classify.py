"""POST /classify: the class of each text; the path exists with and without /v1."""

from __future__ import annotations

from specserve.engine.params import PoolingTask
from specserve.generated import schemas
from specserve.generated.operations import ClassifyApi
from specserve.handlers import fields
from specserve.handlers.chat.prompts import Prompts
from specserve.handlers.context import RequestContext
from specserve.handlers.model_directory import ModelDirectory
from specserve.handlers.openai.pooling_inputs import PoolingInputs
from specserve.handlers.pooling.options import PoolingOptions
from specserve.handlers.pooling.run import PoolingIdentity, PoolingRun
from specserve.handlers.pooling.tasks import DOING, check_task


class Classify(ClassifyApi[RequestContext]):
    def __init__(self, directory: ModelDirectory, prompts: Prompts) -> None:
        self._directory, self._prompts = directory, prompts

    async def classify(self, body: schemas.ClassifyRequest, context: RequestContext) -> schemas.ClassifyResponse:
        fields.CLASSIFY.check(body)
        served = self._directory.resolve(body.model, DOING[PoolingTask.CLASSIFY])
        check_task(served, PoolingTask.CLASSIFY)
        options = PoolingOptions.of(body, served.engine.model)
        inputs = await PoolingInputs(served, self._prompts, options).read(body, context)
        run = PoolingRun(served.engine, PoolingIdentity.of("classify", context, served), options)
        found = await run.pool(PoolingTask.CLASSIFY, inputs)
        labels = served.engine.model.labels
        return schemas.ClassifyResponse(
            id=run.identity.id,
            object="list",
            created=run.identity.created,
            model=run.identity.model,
            data=[
                schemas.ClassifiedText(
                    index=at,
                    label=labels[int(one.argmax())] if len(labels) == len(one) else None,
                    probs=one.tolist(),
                    num_classes=len(one),
                )
                for at, one in enumerate(found)
            ],
            usage=run.count.usage(),
        )

    async def classify_v1(self, body: schemas.ClassifyRequest, context: RequestContext) -> schemas.ClassifyResponse:
        return await self.classify(body, context)
