"""POST /v1/embed, /v2/embed and /v2/rerank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from specserve.engine.api import ModelInfo
from specserve.engine.params import PoolingTask
from specserve.generated import schemas
from specserve.generated.base import Serialised
from specserve.generated.errors import InvalidParameterCombination, UnsupportedValue
from specserve.generated.operations import CohereApi
from specserve.handlers import fields
from specserve.handlers.cohere.small_numbers import small_numbers, stacked
from specserve.handlers.context import RequestContext
from specserve.handlers.limits import Limits
from specserve.handlers.model_directory import ModelDirectory
from specserve.handlers.pooling.inputs import InputReader, ModelInput
from specserve.handlers.pooling.options import Cut, PoolingOptions
from specserve.handlers.pooling.prompts import CLASSIFICATION, CLUSTERING, DOCUMENT, QUERY, with_prompt
from specserve.handlers.pooling.ranking import Ranking
from specserve.handlers.pooling.run import Numbers, PoolingIdentity, PoolingRun, check_answer_size
from specserve.handlers.pooling.scoring import shortened
from specserve.handlers.pooling.tasks import DOING, check_dimensions, check_task
from specserve.handlers.pooling.vectors import VectorFormat, json_array
from specserve.handlers.text_work import text_work

PURPOSES: Mapping[str | None, tuple[str, ...]] = {
    "search_query": QUERY,
    "search_document": DOCUMENT,
    "classification": CLASSIFICATION,
    "clustering": CLUSTERING,
    None: (),
}


class Cohere(CohereApi[RequestContext]):
    def __init__(self, directory: ModelDirectory, ranking: Ranking, limits: Limits) -> None:
        self._directory, self._ranking, self._limits = directory, ranking, limits

    async def rerank_v2(self, body: schemas.RerankRequest, context: RequestContext) -> schemas.RerankResponse:
        return await self._ranking.rank(body, context, version="2")

    async def embed_v1(
        self, body: schemas.CohereEmbedRequest, context: RequestContext
    ) -> Serialised[schemas.CohereEmbedFloats | schemas.CohereEmbedByType]:
        kinds = body.embedding_types
        run, texts, vectors = await self._vectors(body, context)
        head = {"id": run.identity.id, "texts": texts, "meta": meta(run, "1")}
        if kinds:
            return Serialised(await by_type(head, vectors, kinds))
        floats = await json_array((one, one.size) for one in vectors)
        return Serialised(orjson.dumps({"response_type": "embeddings_floats", **head, "embeddings": floats}))

    async def embed_v2(
        self, body: schemas.CohereEmbedRequest, context: RequestContext
    ) -> Serialised[schemas.CohereEmbedByType]:
        run, texts, vectors = await self._vectors(body, context)
        head = {"id": run.identity.id, "texts": texts, "meta": meta(run, "2")}
        return Serialised(await by_type(head, vectors, body.embedding_types or ["float"]))

    async def _vectors(
        self, body: schemas.CohereEmbedRequest, context: RequestContext
    ) -> tuple[PoolingRun, list[str], list[Numbers]]:
        """Raises what the contract lists as refusals."""
        fields.COHERE_EMBED.check(body)
        texts, places = texts_of(body)
        served = self._directory.resolve(body.model, DOING[PoolingTask.EMBED])
        engine, model = served.engine, served.engine.model
        check_task(served, PoolingTask.EMBED)
        dimensions = check_dimensions(body.output_dimension, model, param="output_dimension")
        size = dimensions or model.embedding_size
        if size % 8 and {"binary", "ubinary"} & set(body.embedding_types or ()):
            raise UnsupportedValue(
                f"embedding_types binary and ubinary pack eight numbers into one, and these vectors have {size}; "
                "ask for float, int8 or uint8, or for an output_dimension that eight divides",
                param="embedding_types",
            )
        side = body.truncate or "END"
        cut = Cut(limit=None if side == "NONE" else model.max_model_len, cuts_left=side == "START")
        options = PoolingOptions(cut=cut, priority=body.priority or 0)
        inputs = await text_work(
            context,
            read_texts,
            texts,
            places,
            InputReader(engine.tokenizer, model, cut),
            body.max_tokens,
            body.input_type,
        )
        cut.report(context.response_headers)
        kinds = len(set(body.embedding_types or ["float"]))
        limit = self._limits.max_answer_numbers
        check_answer_size(PoolingTask.EMBED, inputs, size * kinds, limit=limit, param=places[0].partition(".")[0])
        run = PoolingRun(engine, PoolingIdentity.of("embd", context, served), options)
        return run, texts, await run.pool(PoolingTask.EMBED, inputs, dimensions=dimensions)


def texts_of(body: schemas.CohereEmbedRequest) -> tuple[list[str], list[str]]:
    """The texts and their places. Raises InvalidParameterCombination, UnsupportedValue."""
    if body.input_type == "image":
        raise UnsupportedValue("input_type: this model reads text only; send texts", param="input_type")
    if (body.texts is None) == (body.inputs is None):
        sent = "neither is there" if body.texts is None else "both are there"
        raise InvalidParameterCombination(f"send either texts or inputs; {sent}", param="texts")
    if body.texts is not None:
        return body.texts, [f"texts.{at}" for at in range(len(body.texts))]
    inputs = body.inputs or []
    texts = []
    for at, one in enumerate(inputs):
        for number, part in enumerate(one.content):
            if isinstance(part, schemas.CohereImagePart):
                place = f"inputs.{at}.content.{number}"
                raise UnsupportedValue(f"{place} is an image, but this model reads text only", param=place)
        texts.append("\n".join(part.text or "" for part in one.content if isinstance(part, schemas.CohereTextPart)))
    return texts, [f"inputs.{at}" for at in range(len(texts))]


def read_texts(
    texts: Sequence[str], places: Sequence[str], reader: InputReader, max_tokens: int | None, purpose: str | None
) -> list[ModelInput]:
    model: ModelInfo = reader.model
    if max_tokens is not None:
        texts = [shortened(one, max_tokens, reader.tokenizer, cuts_left=reader.cut.cuts_left) for one in texts]
    texts = [with_prompt(one, model, PURPOSES[purpose]) if one else one for one in texts]
    return reader.texts(texts, places=places)


async def by_type(head: Mapping[str, object], vectors: Sequence[Numbers], kinds: Sequence[str]) -> bytes:
    found: dict[str, orjson.Fragment] = {}
    for kind in dict.fromkeys(kinds):
        if kind in ("float", "base64"):
            form = VectorFormat("float" if kind == "float" else "base64")
            found[kind] = await json_array((form.value(one), one.size) for one in vectors)
        else:
            found[kind] = await json_array((one, one.size) for one in small_numbers(stacked(list(vectors)), kind))
    return orjson.dumps({"response_type": "embeddings_by_type", **head, "embeddings": found})


def meta(run: PoolingRun, version: str) -> dict[str, object]:
    return {
        "api_version": {"version": version},
        "billed_units": {"input_tokens": run.count.num_tokens},
        "tokens": {"input_tokens": run.count.num_tokens},
    }
