"""POST /rerank and /v1/rerank, as Jina's API has it and the first version of Cohere's."""

from __future__ import annotations

from specserve.generated import schemas
from specserve.generated.operations import RerankApi
from specserve.handlers.context import RequestContext
from specserve.handlers.pooling.ranking import Ranking


class Rerank(RerankApi[RequestContext]):
    def __init__(self, ranking: Ranking) -> None:
        self._ranking = ranking

    async def rerank(self, body: schemas.RerankRequest, context: RequestContext) -> schemas.RerankResponse:
        return await self._ranking.rank(body, context, version="1")

    async def rerank_v1(self, body: schemas.RerankRequest, context: RequestContext) -> schemas.RerankResponse:
        return await self._ranking.rank(body, context, version="1")
