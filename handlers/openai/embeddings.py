"""POST /v1/embeddings: one vector for each text, list of token ids, or conversation."""

from __future__ import annotations

from specserve.engine.params import PoolingTask
from specserve.generated import schemas
from specserve.generated.base import Serialised
from specserve.generated.operations import EmbeddingsApi
from specserve.handlers import fields
from specserve.handlers.chat.prompts import Prompts
from specserve.handlers.context import RequestContext
from specserve.handlers.limits import Limits
from specserve.handlers.model_directory import ModelDirectory
from specserve.handlers.openai.pooling_inputs import PoolingInputs
from specserve.handlers.openai.pooling_reply import as_bytes, listed
from specserve.handlers.pooling.options import PoolingOptions
from specserve.handlers.pooling.run import PoolingIdentity, PoolingRun, check_answer_size
from specserve.handlers.pooling.tasks import DOING, check_dimensions, check_task
from specserve.handlers.pooling.vectors import VectorFormat


class Embeddings(EmbeddingsApi[RequestContext]):
    def __init__(self, directory: ModelDirectory, prompts: Prompts, limits: Limits) -> None:
        self._directory, self._prompts, self._limits = directory, prompts, limits

    async def create_embedding(
        self, body: schemas.EmbeddingRequest, context: RequestContext
    ) -> Serialised[schemas.EmbeddingList] | bytes:
        fields.EMBEDDING.check(body)
        served = self._directory.resolve(body.model, DOING[PoolingTask.EMBED])
        model = served.engine.model
        check_task(served, PoolingTask.EMBED)
        dimensions = check_dimensions(body.dimensions, model, param="dimensions")
        options = PoolingOptions.of(body, model)
        inputs = await PoolingInputs(served, self._prompts, options).read(body, context)
        limit = self._limits.max_answer_numbers
        check_answer_size(PoolingTask.EMBED, inputs, dimensions or model.embedding_size, limit=limit, param="input")
        run = PoolingRun(served.engine, PoolingIdentity.of("embd", context, served), options)
        vectors = await run.pool(PoolingTask.EMBED, inputs, dimensions=dimensions)
        form = VectorFormat.of(body.encoding_format, body.embed_dtype, body.endianness)
        if form.is_binary:
            return await as_bytes(run, vectors, form, context)

        def entry(at: int, value: object) -> dict[str, object]:
            return {"object": "embedding", "index": at, "embedding": value}

        return Serialised(await listed(run, vectors, entry, form))
