"""What one step computes and what came out of it: the words between scheduler, runner and core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from specserve.engine.api import FinishReason, TokenLogprob, TokenLogprobs
from specserve.engine.request import Request


@dataclass(slots=True)
class ScheduledRequest:
    """`num_new_tokens` tokens of `request` from position `start` are computed in this step.

    `samples` is true when they reach the sequence's last known token and a next one is to be drawn.
    `reported` are the prompt positions whose logprobs this step gives: that of position p comes from the row of
    position p - 1. `drafts` are guesses at what comes behind the last known token: their keys and values are among the
    `num_new_tokens` that are computed.
    """

    request: Request
    start: int
    num_new_tokens: int
    samples: bool
    reported: range = range(0)
    drafts: Sequence[int] = ()

    @property
    def num_known_tokens(self) -> int:
        """Of `num_new_tokens`, those that are no guesses."""
        return self.num_new_tokens - len(self.drafts)


@dataclass(slots=True)
class ScheduledBatch:
    """One step's work: requests with a single token first (decodes), then those with drafts, then prefill chunks in
    arrival order.

    `reports_prompt` tells whether any of them reports logprobs of its prompt: others need not look. `num_drafted` of
    the `num_tokens` are guesses.
    """

    requests: list[ScheduledRequest] = field(default_factory=list)
    num_tokens: int = 0
    reports_prompt: bool = False
    num_drafted: int = 0

    def __bool__(self) -> bool:
        return bool(self.requests)


class SampledToken(msgspec.Struct, frozen=True):
    """The token drawn for one request; `logprobs` only if it asked.

    `ends` when its grammar allows nothing behind this token: the answer is complete.
    """

    token_id: int
    logprobs: TokenLogprobs | None = None
    ends: bool = False


@dataclass(frozen=True, slots=True)
class PackedLogprobs:
    """Logprobs of P consecutive prompt positions with k alternatives each, small enough for the channel.

    token_ids  [P, 1 + k] int32    the prompt's token, then the most likely ones, best first
    logprobs   [P, 1 + k] float32
    ranks      [P] int32           of the prompt's token
    siblings   ids of requests with the same prompt, which take them too
    """

    num_top: int
    token_ids: bytes
    logprobs: bytes
    ranks: bytes
    siblings: tuple[str, ...] = ()

    def unpack(self) -> list[TokenLogprobs]:
        width = self.num_top + 1
        ids = np.frombuffer(self.token_ids, dtype=np.int32).reshape(-1, width).tolist()
        logprobs = np.frombuffer(self.logprobs, dtype=np.float32).reshape(-1, width).tolist()
        ranks = np.frombuffer(self.ranks, dtype=np.int32).tolist()
        places = range(1, width)
        return [
            TokenLogprobs(
                TokenLogprob(row_ids[0], row_logprobs[0], rank),
                tuple(map(TokenLogprob, row_ids[1:], row_logprobs[1:], places)),
            )
            for row_ids, row_logprobs, rank in zip(ids, logprobs, ranks, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Float32 values of one pooled input, small enough for the channel: `shape` is [D] or [T, D]."""

    data: bytes
    shape: tuple[int, ...]

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> PackedRows:
        return cls(np.ascontiguousarray(values, dtype=np.float32).tobytes(), values.shape)

    def unpack(self) -> NDArray[np.float32]:
        return np.frombuffer(self.data, dtype=np.float32).reshape(self.shape)


@dataclass(slots=True)
class StepOutput:
    """What the runner returns: one entry per sampling request of the batch, by request id."""

    sampled: dict[str, SampledToken] = field(default_factory=dict)
    further: dict[str, list[SampledToken]] = field(default_factory=dict)
    """What comes behind the sampled token, for requests whose drafts were right: one token for each that was."""
    failed: dict[str, str] = field(default_factory=dict)
    """Requests whose logits were not finite, with the reason; the others are not affected."""
    refused: set[str] = field(default_factory=set)
    """Those of `failed` whose own constraint is at fault."""
    prompt_logprobs: dict[str, PackedLogprobs] = field(default_factory=dict)
    """One entry per request of the batch that reports some, unless it failed."""
    pooled: dict[str, PackedRows] = field(default_factory=dict)
    """One entry per pooled request whose last token was computed, unless it failed."""


class Launched(Protocol):
    """A batch that a device is computing."""

    batch: ScheduledBatch

    def result(self) -> StepOutput:
        """Waits for it. Raises what went wrong."""


class RequestProgress(msgspec.Struct, array_like=True):
    """What one request gained in a step, on its way to the API process. `prompt_logprobs` follow those sent before.

    `shows_last` tells that the last token is part of a stopped answer, which a grammar ended behind it.
    With `error`, `is_refusal` tells that the request itself is at fault.
    """

    request_id: str
    token_ids: list[int]
    logprobs: list[TokenLogprobs] | None
    finish_reason: FinishReason | None
    stop_reason: int | None
    num_cached_tokens: int
    error: str | None = None
    prompt_logprobs: PackedLogprobs | None = None
    shows_last: bool = False
    is_refusal: bool = False
    pooled: PackedRows | None = None

    @classmethod
    def failed(
        cls, request_id: str, reason: str, num_cached_tokens: int = 0, *, is_refusal: bool = False
    ) -> RequestProgress:
        return cls(request_id, [], None, None, None, num_cached_tokens, reason, is_refusal=is_refusal)
