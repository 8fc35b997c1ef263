"""What a caller may ask of one sequence. Frozen, validated on construction, sent as it is to the engine."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from specserve.engine.errors import InvalidParameterError
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.thought_limit import ThoughtLimit

GREEDY_TEMPERATURE = 1e-5
"""Below this the sampler takes the most likely token (the value such servers commonly use)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How tokens are chosen and when a sequence ends.

    `max_tokens` counts new tokens; 0 computes the prompt and ends with LENGTH. `top_k` 0 means off.
    `stop_token_ids` include the model's end tokens unless `ignore_eos` kept them out; the handler merges them.
    `stop` strings are matched on decoded text in the API process, never in the engine.

    logprobs             alternatives reported beside each sampled token (0: the sampled one only; None: nothing)
    logprob_token_ids    report these tokens, in this order, instead of the most likely ones; needs `logprobs`
    prompt_logprobs      alternatives reported beside each token of the prompt; None: nothing
    bad_words_token_ids  sequences that the answer must not contain: the last token of one is forbidden when the
                         answer ends with those before it, a single one always, unless nothing else is left
    grammar              the constraint of the whole answer, as `handlers.grammars` has passed it
    thought              how long the answer may think before it is made to go on

    Raises InvalidParameterError naming the field.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    logprobs: int | None = None
    logprob_token_ids: tuple[int, ...] = ()
    prompt_logprobs: int | None = None
    bad_words_token_ids: tuple[tuple[int, ...], ...] = ()
    logit_bias: dict[int, float] = field(default_factory=dict)
    allowed_token_ids: tuple[int, ...] = ()
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    grammar: GrammarSpec | None = None
    thought: ThoughtLimit | None = None

    def __post_init__(self) -> None:
        def require(ok: bool, param: str, rule: str) -> None:
            if not ok:
                raise InvalidParameterError(f"{param} must be {rule}, got {getattr(self, param)!r}", param=param)

        require(self.max_tokens >= 0, "max_tokens", "0 (the prompt only) or positive")
        require(math.isfinite(self.temperature) and 0 <= self.temperature <= 2, "temperature", "in [0, 2]")
        require(0 < self.top_p <= 1, "top_p", "in (0, 1]")
        require(self.top_k >= 0, "top_k", "0 (off) or positive")
        require(0 <= self.min_p <= 1, "min_p", "in [0, 1]")
        penalty = self.repetition_penalty
        require(math.isfinite(penalty) and penalty > 0, "repetition_penalty", "positive")
        require(-2 <= self.presence_penalty <= 2, "presence_penalty", "in [-2, 2]")
        require(-2 <= self.frequency_penalty <= 2, "frequency_penalty", "in [-2, 2]")
        require(all(self.stop), "stop", "without empty strings")
        require(0 <= self.min_tokens <= self.max_tokens, "min_tokens", f"in [0, max_tokens={self.max_tokens}]")
        require(self.logprobs is None or self.logprobs >= 0, "logprobs", "0 or positive")
        require(self.prompt_logprobs is None or self.prompt_logprobs >= 0, "prompt_logprobs", "0 or positive")
        require(all(self.bad_words_token_ids), "bad_words_token_ids", "without empty sequences")
        thought = self.thought
        require(thought is None or (thought.max_tokens >= 0 and bool(thought.closing)), "thought", "0 tokens or more")
        require(not self.logprob_token_ids or self.logprobs is not None, "logprob_token_ids", "empty without logprobs")

    @property
    def is_greedy(self) -> bool:
        return self.temperature < GREEDY_TEMPERATURE

    @property
    def has_penalties(self) -> bool:
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0

    @property
    def takes_highest(self) -> bool:
        """Whether each token is that of the largest logit as it was computed, and nothing else is asked of logits."""
        asks_more = self.logit_bias or self.allowed_token_ids or self.bad_words_token_ids or self.min_tokens
        is_bound = self.grammar is not None or self.thought is not None
        return self.is_greedy and self.logprobs is None and not (asks_more or is_bound or self.has_penalties)


class PoolingTask(StrEnum):
    """What is made of a text's hidden states: one vector or one per token, for embedding or over classes."""

    EMBED = "embed"
    CLASSIFY = "classify"
    TOKEN_EMBED = "token_embed"
    TOKEN_CLASSIFY = "token_classify"

    @property
    def is_embedding(self) -> bool:
        return self in (PoolingTask.EMBED, PoolingTask.TOKEN_EMBED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingParams:
    """What is wanted of one text.

    use_activation  embeddings of length 1, or softmax (sigmoid) over classes. None: as the model's authors say
    dimensions      so many leading dimensions of an embedding, for Matryoshka models; None: all

    Raises InvalidParameterError naming the field.
    """

    task: PoolingTask
    use_activation: bool | None = None
    dimensions: int | None = None

    def __post_init__(self) -> None:
        if self.dimensions is None:
            return
        if not self.task.is_embedding:
            raise InvalidParameterError(
                f"dimensions is {self.dimensions}, but only embeddings can be shortened, no results of {self.task}",
                param="dimensions",
            )
        if self.dimensions < 1:
            raise InvalidParameterError(f"dimensions must be positive, got {self.dimensions}", param="dimensions")
