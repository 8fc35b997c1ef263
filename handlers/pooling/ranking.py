"""Documents sorted by how well they answer a query: what the reranking of Jina and Cohere have in common."""

from __future__ import annotations

from math import ceil

import numpy as np

from specserve.generated import schemas
from specserve.generated.errors import UnsupportedValue
from specserve.handlers import fields
from specserve.handlers.chat.prompts import Prompts
from specserve.handlers.context import RequestContext
from specserve.handlers.model_directory import ModelDirectory
from specserve.handlers.pooling.documents import text_of
from specserve.handlers.pooling.options import PoolingOptions
from specserve.handlers.pooling.pair_template import PairTemplate, template_variables
from specserve.handlers.pooling.prompts import DOCUMENT, QUERY
from specserve.handlers.pooling.run import PoolingIdentity, PoolingRun
from specserve.handlers.pooling.scoring import Scorer, Side
from specserve.handlers.pooling.tasks import check_scores, is_cross_encoder, scores_pairs

DOCUMENTS_OF_A_UNIT = 100


class Ranking:
    def __init__(self, directory: ModelDirectory, prompts: Prompts) -> None:
        self._directory, self._prompts = directory, prompts

    async def rank(
        self, body: schemas.RerankRequest, context: RequestContext, *, version: str
    ) -> schemas.RerankResponse:
        """Raises what the contract lists as refusals."""
        fields.RERANK.check(body)
        if body.relevant_spans is not None and body.relevant_spans.mode == "enabled":
            raise UnsupportedValue(
                "relevant_spans: this server marks no places in documents; leave it out, or send mode: disabled",
                param="relevant_spans.mode",
            )
        query = Side([text_of(body.query, "query")], ["query"], body.max_tokens_per_query or 0, QUERY)
        places = [f"documents.{at}" for at in range(len(body.documents))]
        texts = [text_of(one, at, body.rank_fields) for one, at in zip(body.documents, places, strict=True)]
        served = self._directory.resolve(body.model, is_cross_encoder, scores_pairs)
        check_scores(served)
        options = PoolingOptions.of(body, served.engine.model)
        run = PoolingRun(served.engine, PoolingIdentity.of("rerank", context, served), options)
        template = PairTemplate(
            prompts=self._prompts,
            tokenizer=served.engine.tokenizer,
            own=body.chat_template,
            variables=template_variables(body.instruction, body.chat_template_kwargs),
        )
        scorer = Scorer(run=run, template=template, context=context, is_bounded=True)
        scores = await scorer.scores(query, Side(texts, places, body.max_tokens_per_doc or 0, DOCUMENT))
        best = np.argsort(-scores, kind="stable")[: body.top_n or len(texts)]
        results = []
        for at in best.tolist():
            result = schemas.RerankResult(index=at, relevance_score=float(scores[at]))
            if body.return_documents is not False:
                result.document = schemas.RerankedDocument(text=texts[at])
            results.append(result)
        return schemas.RerankResponse(
            id=run.identity.id,
            object="list",
            model=run.identity.model,
            results=results,
            usage=run.count.usage(),
            meta=schemas.CohereMeta(
                api_version=schemas.CohereApiVersion(version=version),
                billed_units=schemas.CohereBilledUnits(search_units=ceil(len(texts) / DOCUMENTS_OF_A_UNIT)),
                tokens=schemas.CohereTokens(input_tokens=run.count.num_tokens),
            ),
        )
