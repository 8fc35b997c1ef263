"""What one step computes and what came out of it: the words between scheduler, runner and core."""

from __future__ import annotations

from dataclasses import dataclass, field

from specserve.engine.api import FinishReason, TokenLogprobs
from specserve.engine.request import Request


@dataclass(slots=True)
class ScheduledRequest:
    """`num_new_tokens` tokens of `request` from position `start` are computed in this step.

    `samples` is true when they reach the sequence's last known token, so that a next one is drawn.
    """

    request: Request
    start: int
    num_new_tokens: int
    samples: bool


@dataclass(slots=True)
class ScheduledBatch:
    """One step's work: requests with a single token first (decodes), then prefill chunks in arrival order."""

    requests: list[ScheduledRequest] = field(default_factory=list)
    num_tokens: int = 0

    def __bool__(self) -> bool:
        return bool(self.requests)


@dataclass(frozen=True, slots=True)
class SampledToken:
    """The token drawn for one request; `logprobs` only if it asked."""

    token_id: int
    logprobs: TokenLogprobs | None = None


@dataclass(slots=True)
class StepOutput:
    """What the runner returns: one entry per sampling request of the batch, by request id."""

    sampled: dict[str, SampledToken] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Requests whose logits were not finite, with the reason; the others are not affected."""


@dataclass(slots=True)
class RequestProgress:
    """What one request gained in a step, on its way to the API process."""

    request_id: str
    token_ids: list[int]
    logprobs: list[TokenLogprobs] | None
    finish_reason: FinishReason | None
    stop_reason: int | None
    num_cached_tokens: int
    error: str | None = None
