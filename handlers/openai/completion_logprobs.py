"""The older form of log probabilities: parallel lists, and candidates as a map from a token's text."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from specserve.engine.api import TokenLogprob, TokenLogprobs
from specserve.engine.detokenizer import Detokenizer
from specserve.generated import schemas
from specserve.handlers.openai.completion_prompts import CompletionPrompt, TextPlaces
from specserve.handlers.openai.reply import ENTRIES_IN_ONE_GO, TokenNames, finite


@dataclass(slots=True)
class CompletionLogprobsWriter:
    """Writes the lists for one choice, piece by piece; offsets count from the beginning of the choice's text.

    `num_top` alternatives are shown for a token of the prompt, all that the engine gives for one of the answer.
    `echoed` is the prompt if the choice shows it. `after` is the prompt in whose text the answer goes on.
    """

    names: TokenNames
    num_top: int
    skip_special_tokens: bool
    after: Sequence[int]
    echoed: CompletionPrompt | None = None
    places: TextPlaces = field(init=False)

    def __post_init__(self) -> None:
        tokenizer = self.names.tokenizer
        detokenizer = Detokenizer(tokenizer, skip_special_tokens=self.skip_special_tokens, after=self.after)
        self.places = TextPlaces(detokenizer, tokenizer, len(self.echoed.echo) if self.echoed else 0)

    async def of_prompt(self, tokens: Sequence[TokenLogprobs | None]) -> schemas.CompletionLogprobs:
        """Nothing comes before the first token, so it has no probability. Others are served between the pieces."""
        found = empty()
        if self.echoed is None:
            return found
        tokens_in_one_go = ENTRIES_IN_ONE_GO // (1 + self.num_top) + 1
        places = zip(self.echoed.token_ids, self.echoed.starts, tokens, strict=True)
        for number, (token_id, begins, token) in enumerate(places, start=1):
            self._append(found, begins, token_id, token and TokenLogprobs(token.sampled, token.top[: self.num_top]))
            if number % tokens_in_one_go == 0:
                await asyncio.sleep(0)
        return found

    def of_answer(self, tokens: Sequence[TokenLogprobs]) -> schemas.CompletionLogprobs:
        found = empty()
        for token in tokens:
            begins, _ = self.places.advance(token.sampled.token_id)
            self._append(found, begins, token.sampled.token_id, token)
        return found

    def _append(
        self, found: schemas.CompletionLogprobs, begins: int, token_id: int, token: TokenLogprobs | None
    ) -> None:
        found.text_offset.append(begins)  # type: ignore[union-attr]
        found.tokens.append(self.names.text(token_id))  # type: ignore[union-attr]
        found.token_logprobs.append(None if token is None else finite(token.sampled.logprob))  # type: ignore[union-attr]
        best = None if token is None else self._candidates(token.sampled, token.top)
        found.top_logprobs.append(best)  # type: ignore[union-attr]

    def _candidates(self, chosen: TokenLogprob, top: Sequence[TokenLogprob]) -> dict[str, float]:
        """Text to log probability, the likeliest first; the chosen token is always there under its own text.

        Of tokens that read the same, such as parts of characters, only one can have the text as its key: the chosen
        one, else the likeliest. The others are written as `token_id:<n>`.
        """
        name = self.names.text(chosen.token_id)
        found: dict[str, float] = {}
        for candidate in top:
            text = self.names.text(candidate.token_id)
            if candidate.token_id != chosen.token_id and (text == name or text in found):
                text = f"token_id:{candidate.token_id}"
            found[text] = finite(candidate.logprob)
        found.setdefault(name, finite(chosen.logprob))
        return found


def empty() -> schemas.CompletionLogprobs:
    return schemas.CompletionLogprobs(text_offset=[], token_logprobs=[], tokens=[], top_logprobs=[])


def joined(first: schemas.CompletionLogprobs, second: schemas.CompletionLogprobs) -> schemas.CompletionLogprobs:
    return schemas.CompletionLogprobs(
        text_offset=[*(first.text_offset or []), *(second.text_offset or [])],
        token_logprobs=[*(first.token_logprobs or []), *(second.token_logprobs or [])],
        tokens=[*(first.tokens or []), *(second.tokens or [])],
        top_logprobs=[*(first.top_logprobs or []), *(second.top_logprobs or [])],
    )
