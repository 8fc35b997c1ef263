"""How well texts go together, by whatever the model is: one that reads pairs, or one that makes vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from specserve.engine.api import ModelInfo, Tokenizer
from specserve.engine.params import PoolingTask
from specserve.generated.errors import UnsupportedParameter
from specserve.handlers.context import RequestContext
from specserve.handlers.pooling.frames import longest_first, pair_frame
from specserve.handlers.pooling.inputs import InputReader, ModelInput, check_length, empty_input
from specserve.handlers.pooling.pair_template import PairTemplate
from specserve.handlers.pooling.prompts import with_prompt
from specserve.handlers.pooling.run import Numbers, PoolingRun
from specserve.handlers.pooling.similarity import Scores, max_sim, sigmoid, similarities, similarity_from_0_to_1
from specserve.handlers.pooling.tasks import is_cross_encoder
from specserve.handlers.text_work import check_text_length, text_work

T = TypeVar("T")

NUMBERS_AT_ONCE = 1 << 22
"""Of the vectors of tokens that are kept at a time: 16 MB."""


@dataclass(frozen=True, slots=True)
class Side:
    """The first or the second texts of all pairs. `purposes` are the names their prompt may have in the model's folder.

    `max_tokens` 0 keeps them whole.
    """

    texts: Sequence[str]
    places: Sequence[str]
    max_tokens: int = 0
    purposes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """`is_bounded`: every score lies between 0 and 1, unless the request wants the model's own numbers.

    Vectors are always compared as the model makes them: what a request says of activation is about the scores.
    """

    run: PoolingRun
    template: PairTemplate
    context: RequestContext
    is_bounded: bool

    async def scores(self, first: Side, second: Side) -> Scores:
        """One for each pair: the only first text with every second one, or one by one. Raises what it documents."""
        model = self.run.engine.model
        for side in (first, second):
            for text, place in zip(side.texts, side.places, strict=True):
                if not text:
                    raise empty_input(place)
        if not model.is_decoder_reranker and (self.template.variables or self.template.own is not None):
            name = "chat_template" if self.template.own is not None else next(iter(self.template.variables))
            name = name if name in ("instruction", "chat_template") else "chat_template_kwargs"
            raise UnsupportedParameter(
                f"{name} is for models whose pairs are written by a template, which this one's are not; leave it out",
                param=name,
            )
        if first.max_tokens or second.max_tokens:
            first, second = await text_work(self.context, self._shortened, first, second)
        if is_cross_encoder(model):
            return await self._of_pairs(first, second)
        if PoolingTask.EMBED in model.tasks and not model.is_late_interaction:
            return await self._of_vectors(first, second)
        return await self._of_token_vectors(first, second)

    def _shortened(self, first: Side, second: Side) -> tuple[Side, Side]:
        tokenizer, cuts_left = self.run.engine.tokenizer, self.run.options.cut.cuts_left

        def cut(side: Side) -> Side:
            if not side.max_tokens:
                return side
            texts = [shortened(text, side.max_tokens, tokenizer, cuts_left=cuts_left) for text in side.texts]
            return Side(texts, side.places, 0, side.purposes)

        return cut(first), cut(second)

    async def _of_pairs(self, first: Side, second: Side) -> Scores:
        read = self._prompts_of_pairs if self.run.engine.model.is_decoder_reranker else self._pairs
        inputs = await text_work(self.context, read, first, second)
        self.run.options.cut.report(self.context.response_headers)
        wants = self.run.options.use_activation
        is_squashed_here = wants is not False and (self.is_bounded or wants is True)
        run = self.run.activated(False) if is_squashed_here else self.run
        found = np.array([one[0] for one in await run.pool(PoolingTask.CLASSIFY, inputs)], dtype=np.float64)
        return sigmoid(found) if is_squashed_here else found

    def _pairs(self, first: Side, second: Side) -> list[ModelInput]:
        tokenizer, model, cut = self.run.engine.tokenizer, self.run.engine.model, self.run.options.cut
        if cut.limit is None:
            for side in (first, second):
                for text, place in zip(side.texts, side.places, strict=True):
                    check_text_length(text, tokenizer, model, param=place)
        frame = pair_frame(tokenizer)
        left = tokenizer.encode_batch(first.texts, add_special_tokens=False)
        right = tokenizer.encode_batch(second.texts, add_special_tokens=False)
        room = InputReader(tokenizer, model, cut).room(frame.num_tokens) if cut.limit is not None else None
        found = []
        for one, other, place in pairs_of(left, right, first, second):
            num_before = len(one) + len(other) + frame.num_tokens
            if room is not None:
                num_first, num_second = longest_first(len(one), len(other), room)
                one, other = cut.kept(one, num_first), cut.kept(other, num_second)
            token_ids, type_ids = frame.join(one, other)
            cut.count(num_before, len(token_ids))
            if not token_ids:
                raise empty_input(place)
            check_length(len(token_ids), model, place)
            found.append(ModelInput(token_ids, type_ids if model.has_token_types else None))
        return found

    def _prompts_of_pairs(self, first: Side, second: Side) -> list[ModelInput]:
        """Cuts take from the document, so that what the template writes around the texts stays whole."""
        tokenizer, model, cut = self.run.engine.tokenizer, self.run.engine.model, self.run.options.cut
        found = []
        for query, document, place in pairs_of(first.texts, second.texts, first, second):
            if cut.limit is None:
                check_text_length(document, tokenizer, model, param=place)
            token_ids = tokenizer.encode(self.template.text(query, document), add_special_tokens=False)
            num_before = len(token_ids)
            while cut.limit is not None and len(token_ids) > cut.limit and document:
                num_left = len(tokenizer.encode(document, add_special_tokens=False)) - (len(token_ids) - cut.limit)
                document = shortened(document, num_left, tokenizer, cuts_left=cut.cuts_left) if num_left > 0 else ""
                token_ids = tokenizer.encode(self.template.text(query, document), add_special_tokens=False)
            cut.count(num_before, len(token_ids))
            check_length(len(token_ids), model, place)
            found.append(ModelInput(token_ids))
        return found

    async def _of_vectors(self, first: Side, second: Side) -> Scores:
        model = self.run.engine.model
        inputs = await text_work(self.context, lambda: [*self._read(first), *self._read(second)])
        self.run.options.cut.report(self.context.response_headers)
        vectors = await self.run.activated(None).pool(PoolingTask.EMBED, inputs)
        left, right = vectors[: len(first.texts)], vectors[len(first.texts) :]
        found = similarities(left * (len(right) if len(left) == 1 else 1), right, model.similarity)
        return similarity_from_0_to_1(found, model.similarity) if self._squashes else found

    def _read(self, side: Side, prefix_ids: tuple[int, ...] = ()) -> list[ModelInput]:
        engine = self.run.engine
        texts = [with_prompt(text, engine.model, side.purposes) for text in side.texts]
        reader = InputReader(engine.tokenizer, engine.model, self.run.options.cut, prefix_ids)
        return reader.texts(texts, places=side.places)

    async def _of_token_vectors(self, first: Side, second: Side) -> Scores:
        model = self.run.engine.model
        queries = await text_work(self.context, self._read, first, model.query_prefix_ids)
        queries = [expanded(query, model) for query in queries]
        documents = await text_work(self.context, self._read, second, model.document_prefix_ids)
        self.run.options.cut.report(self.context.response_headers)
        kept: list[Numbers] = []
        found: list[float] = []
        for start, end in slices([len(one.token_ids) * model.embedding_size for one in documents], NUMBERS_AT_ONCE):
            # As many queries as documents go with them; the only one of all is computed once.
            wanted = queries[start:end] if len(queries) > 1 else queries if not kept else []
            inputs, run = [*wanted, *documents[start:end]], self.run.activated(None)
            both = await run.pool(PoolingTask.TOKEN_EMBED, inputs, name=f"-{start}")
            kept = both[: len(wanted)] or kept
            for at, whole in enumerate(both[len(wanted) :]):
                document = compared(whole, documents[start + at], model)
                query = kept[at if len(queries) > 1 else 0]
                value = max_sim(query, document)
                found.append(value / len(query) if self._squashes else value)
        scores = np.array(found, dtype=np.float64)
        return similarity_from_0_to_1(scores, "cosine") if self._squashes else scores

    @property
    def _squashes(self) -> bool:
        return self.is_bounded and self.run.options.use_activation is not False


def expanded(query: ModelInput, model: ModelInfo) -> ModelInput:
    """A short query filled up to the length the model was trained with; a longer one is left whole.

    Source: Khattab and Zaharia 2020 (ColBERT), section 3.2.
    """
    wanted = model.query_expansion
    num_added = 0 if wanted is None else min(wanted.num_tokens, model.max_model_len) - len(query.token_ids)
    if wanted is None or num_added <= 0:
        return query
    token_ids = [*query.token_ids, *[wanted.token_id] * num_added]
    return ModelInput(token_ids, num_unseen=0 if wanted.is_seen else num_added)


def compared(vectors: Numbers, document: ModelInput, model: ModelInfo) -> Numbers:
    """Those of a document's vectors whose tokens are not skipped; all of them if none would be left."""
    if not model.skipped_document_ids:
        return vectors
    kept = vectors[~np.isin(document.token_ids, model.skipped_document_ids)]
    return kept if len(kept) else vectors


def pairs_of(left: Sequence[T], right: Sequence[T], first: Side, second: Side) -> Iterator[tuple[T, T, str]]:
    """Both halves of each pair, and the place to name in a refusal."""
    for at, other in enumerate(right):
        yield left[at if len(left) > 1 else 0], other, second.places[at]


def slices(sizes: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Stretches of a list whose sizes add up to the limit at most, or that have one entry."""
    start, total = 0, 0
    for at, size in enumerate(sizes):
        if at > start and total + size > limit:
            yield start, at
            start, total = at, 0
        total += size
    if sizes:
        yield start, len(sizes)


def shortened(text: str, num_tokens: int, tokenizer: Tokenizer, *, cuts_left: bool = False) -> str:
    """As much of a text as its first (or last) so many tokens stand for."""
    longest = tokenizer.max_token_chars
    if not cuts_left and longest is not None:
        text = text[: (num_tokens + 256) * longest]  # the rest cannot be among them, so it need not be tokenized
    token_ids, starts = tokenizer.encode_with_starts(text, add_special_tokens=False)
    if len(token_ids) <= num_tokens:
        return text
    return text[starts[len(token_ids) - num_tokens] :] if cuts_left else text[: starts[num_tokens]]
