"""What both generation endpoints put into their replies: identity, usage, the names of tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from specserve.engine.api import FinishReason, Tokenizer, TokenLogprob, TokenLogprobs
from specserve.generated import schemas
from specserve.generated.errors import InvalidParameterCombination, UnsupportedValue
from specserve.handlers.chat.events import ContentDelta
from specserve.handlers.chat.fold import ChoiceResult
from specserve.handlers.context import RequestContext
from specserve.handlers.model_directory import ServedModel

Request = schemas.ChatCompletionRequest | schemas.CompletionRequest

ENTRIES_IN_ONE_GO = 1000
"""Log probabilities that are written before others get their turn."""
LOWEST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON cannot say."""
WIRE_REASONS = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same over all pieces of one reply."""

    id: str
    created: int
    model: str
    fingerprint: str

    @classmethod
    def of(cls, prefix: str, context: RequestContext, served: ServedModel) -> Identity:
        """The reply is called after the request."""
        return cls(f"{prefix}-{context.identity.id}", int(time.time()), served.name, served.system_fingerprint)


@dataclass(slots=True)
class UsageCount:
    """Counts while the answer runs. `n` is the number of choices per prompt.

    Cached tokens are those the first choice of each prompt found: its siblings find what it computes.
    """

    num_prompt_tokens: int
    n: int
    num_completion_tokens: int = 0
    num_reasoning_tokens: int = 0
    num_cached_tokens: dict[int, int] = field(default_factory=dict)

    def add(self, part: ContentDelta | ChoiceResult) -> None:
        """A piece of a choice, or a whole one."""
        self.num_completion_tokens += len(part.token_ids) + part.num_hidden_tokens
        self.num_reasoning_tokens += part.num_reasoning_tokens
        if part.index % self.n == 0:
            self.num_cached_tokens[part.index] = part.num_cached_tokens

    @property
    def total_cached_tokens(self) -> int:
        return min(sum(self.num_cached_tokens.values()), self.num_prompt_tokens)

    def json(self) -> bytes:
        """As that of `usage()`, at a tenth of the cost."""
        found = (
            b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d}'
            % (
                self.num_prompt_tokens,
                self.num_completion_tokens,
                self.num_prompt_tokens + self.num_completion_tokens,
                self.total_cached_tokens,
            )
        )
        if self.num_reasoning_tokens:
            found += b',"completion_tokens_details":{"reasoning_tokens":%d}' % self.num_reasoning_tokens
        return found + b"}"

    def usage(self) -> schemas.Usage:
        usage = schemas.Usage(
            prompt_tokens=self.num_prompt_tokens,
            completion_tokens=self.num_completion_tokens,
            total_tokens=self.num_prompt_tokens + self.num_completion_tokens,
            prompt_tokens_details=schemas.PromptTokensDetails(cached_tokens=self.total_cached_tokens),
        )
        if self.num_reasoning_tokens:
            usage.completion_tokens_details = schemas.CompletionTokensDetails(
                reasoning_tokens=self.num_reasoning_tokens
            )
        return usage


@dataclass(frozen=True, slots=True)
class TokenNames:
    """How tokens are written in log probabilities: as text, or as `token_id:<n>` when asked for."""

    tokenizer: Tokenizer
    as_ids: bool

    def text(self, token_id: int) -> str:
        return f"token_id:{token_id}" if self.as_ids else self.tokenizer.token_text(token_id)


@dataclass(slots=True)
class TokenWriter:
    """Describes the tokens of one answer. Their `bytes`, joined, are its text in UTF-8, wherever tokens cut it.

    hidden_ids           tokens that the text leaves out: they have no bytes
    num_stripped_spaces  as many spaces at most are missing at the beginning of the text
    """

    names: TokenNames
    hidden_ids: frozenset[int]
    num_stripped_spaces: int

    @classmethod
    def of(cls, names: TokenNames, *, skip_special_tokens: bool, continues_text: bool) -> TokenWriter:
        spelling = names.tokenizer.spelling
        if spelling is None:
            return cls(names, frozenset(), 0)
        hidden_ids = spelling.special_ids if skip_special_tokens else frozenset()
        return cls(names, hidden_ids, 0 if continues_text else spelling.num_stripped_spaces)

    def describe(self, token: TokenLogprobs) -> schemas.TokenLogprobs:
        sampled = self._describe(token.sampled)
        found = schemas.TokenLogprobs(
            token=sampled.token,
            logprob=sampled.logprob,
            bytes=sampled.bytes,
            top_logprobs=[self._describe(candidate) for candidate in token.top],
        )
        if self.num_stripped_spaces and token.sampled.token_id not in self.hidden_ids:
            data = self.names.tokenizer.token_bytes(token.sampled.token_id)
            num_spaces = len(data) - len(data.lstrip(b" "))
            self.num_stripped_spaces = max(0, self.num_stripped_spaces - num_spaces) if num_spaces == len(data) else 0
        return found

    def _describe(self, token: TokenLogprob) -> schemas.TokenLogprob:
        data = None
        if token.token_id not in self.hidden_ids:
            data = list(self.names.tokenizer.token_bytes(token.token_id))
            for _ in range(self.num_stripped_spaces):
                if data[:1] == [32]:
                    del data[0]
        return schemas.TokenLogprob(token=self.names.text(token.token_id), logprob=finite(token.logprob), bytes=data)


async def prompt_logprobs(
    names: TokenNames, tokens: Sequence[TokenLogprobs | None]
) -> list[schemas.PromptLogprobCandidates | None]:
    """One entry per token of the prompt, null where nothing precedes it: candidates by token id, its own first.

    A long prompt takes seconds, in pieces of milliseconds: others are served between them.
    """
    texts: dict[int, str] = {}
    found: list[schemas.PromptLogprobCandidates | None] = []
    num_unyielded = 0
    for token in tokens:
        if token is None:
            found.append(None)
            continue
        candidates: schemas.PromptLogprobCandidates = {}
        for one in (token.sampled, *token.top):
            if (text := texts.get(one.token_id)) is None:
                text = texts[one.token_id] = names.tokenizer.token_text(one.token_id)
            candidates[str(one.token_id)] = schemas.PromptLogprob(
                logprob=finite(one.logprob), rank=one.rank, decoded_token=text
            )
        found.append(candidates)
        num_unyielded += len(candidates)
        if num_unyielded >= ENTRIES_IN_ONE_GO:
            num_unyielded = 0
            await asyncio.sleep(0)
    return found


def finite(logprob: float) -> float:
    return max(logprob, LOWEST_LOGPROB)


def check_common(body: Request, num_choices: int, max_choices: int) -> None:
    """What holds for both endpoints and no schema can say."""
    if body.stream_options is not None and not body.stream:
        raise InvalidParameterCombination("stream_options goes with stream: true only", param="stream_options")
    if num_choices > max_choices:
        raise UnsupportedValue(
            f"{num_choices} choices were asked for (prompts times n), the limit is {max_choices}; ask for fewer",
            param="n",
        )


def include_usage(body: Request) -> tuple[bool, bool]:
    """Whether a stream ends with usage, and whether every piece carries it."""
    options = body.stream_options
    at_end = options is not None and options.include_usage
    return at_end, at_end and options is not None and options.continuous_usage_stats
