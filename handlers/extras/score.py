"""POST /score: how well texts go together; the path exists with and without /v1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specserve.generated import schemas
from specserve.generated.errors import InvalidParameterCombination, MissingRequiredParameter
from specserve.generated.operations import ScoreApi
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

NAMES = (("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2"))
"""What the first and the second texts may be called."""


class Score(ScoreApi[RequestContext]):
    def __init__(self, directory: ModelDirectory, prompts: Prompts) -> None:
        self._directory, self._prompts = directory, prompts

    async def score(self, body: schemas.ScoreRequest, context: RequestContext) -> schemas.ScoreResponse:
        fields.SCORE.check(body)
        first, second = sides_of(body)
        served = self._directory.resolve(body.model, is_cross_encoder, scores_pairs)
        check_scores(served)
        options = PoolingOptions.of(body, served.engine.model)
        run = PoolingRun(served.engine, PoolingIdentity.of("score", context, served), options)
        variables = template_variables(body.instruction, body.chat_template_kwargs)
        template = PairTemplate(
            prompts=self._prompts, tokenizer=served.engine.tokenizer, own=body.chat_template, variables=variables
        )
        scorer = Scorer(run=run, template=template, context=context, is_bounded=False)
        scores = await scorer.scores(first, second)
        return schemas.ScoreResponse(
            id=run.identity.id,
            object="list",
            created=run.identity.created,
            model=run.identity.model,
            data=[schemas.Score(index=at, object="score", score=float(one)) for at, one in enumerate(scores)],
            usage=run.count.usage(),
        )

    async def score_v1(self, body: schemas.ScoreRequest, context: RequestContext) -> schemas.ScoreResponse:
        return await self.score(body, context)


def sides_of(body: schemas.ScoreRequest) -> tuple[Side, Side]:
    """Raises MissingRequiredParameter, InvalidParameterCombination, and what `text_of` raises."""
    sent = {name for pair in NAMES for name in pair if getattr(body, name) is not None}
    found = [pair for pair in NAMES if set(pair) <= sent]
    names = found[0] if found else next((pair for pair in NAMES if sent & set(pair)), NAMES[0])
    for name in names:
        if name not in sent:
            raise MissingRequiredParameter(
                f"{name} is missing; send queries and documents, or text_1 and text_2", param=name
            )
    for name in sorted(sent - set(names)):
        raise InvalidParameterCombination(
            f"{name} is another name of what {names[0]} and {names[1]} have already; leave it out", param=name
        )
    # Only these names say that the first is a question and the second could be its answer.
    purposes = (QUERY, DOCUMENT) if names[0] == "queries" else ((), ())
    first = side_of(getattr(body, names[0]), names[0], body.max_tokens_per_query or 0, purposes[0])
    second = side_of(getattr(body, names[1]), names[1], body.max_tokens_per_doc or 0, purposes[1])
    if len(first.texts) not in (1, len(second.texts)):
        raise InvalidParameterCombination(
            f"{names[0]} has {len(first.texts)} texts and {names[1]} has {len(second.texts)}; "
            "send one first text, or as many first as second ones",
            param=names[0],
        )
    return first, second


def side_of(sent: Any, name: str, max_tokens: int, purposes: tuple[str, ...]) -> Side:
    is_list = isinstance(sent, list)
    given: Sequence[str | schemas.TextObject] = sent if is_list else [sent]
    places = [f"{name}.{at}" for at in range(len(given))] if is_list else [name]
    texts = [text_of(one, place) for one, place in zip(given, places, strict=True)]
    return Side(texts, places, max_tokens, purposes)
