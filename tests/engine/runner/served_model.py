"""Requests through the real scheduler, KV manager, runner and output processor, and what their callers would get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from specserve.engine.api import FinishReason, GenerationRequest, TokenLogprobs
from specserve.engine.core import EngineCore
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.output_processor import OutputProcessor
from specserve.engine.params import SamplingParams
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.scheduler import Scheduler
from specserve.engine.stats import EngineStats


@dataclass
class Answer:
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None
    finish_reason: FinishReason | None = None


class NoText:
    """A tokenizer for models that have none: outputs carry ids only."""

    spelling = None

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return ""


class ServedModel:
    """A runner behind a scheduler of its own."""

    def __init__(
        self,
        runner: ModelRunner,
        *,
        token_budget: int = 64,
        num_blocks: int = 48,
        max_num_seqs: int = 4,
        max_reported_rows: int | None = None,
        policy: str = "fcfs",
    ) -> None:
        self.scheduler = Scheduler(
            KVCacheManager(num_blocks, runner.info.block_size),
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=token_budget,
            max_model_len=runner.info.max_model_len,
            eos_token_ids=runner.info.eos_token_ids,
            policy=policy,
            max_reported_rows=max_reported_rows,
        )
        self.core = EngineCore(self.scheduler, runner)
        self.outputs = OutputProcessor(NoText())  # type: ignore[arg-type]
        self.answers: dict[str, Answer] = {}

    @property
    def stats(self) -> EngineStats:
        return self.core.stats()

    def add(self, *requests: GenerationRequest) -> None:
        for request in requests:
            self.outputs.add(request)
            self.answers[request.request_id] = Answer()
        assert self.core.add(requests) == []

    def step(self) -> None:
        for progress in self.core.step():
            processed = self.outputs.process(progress)
            if processed is None:
                continue
            output, _ = processed
            answer = self.answers[output.request_id]
            if not answer.token_ids:
                answer.prompt_logprobs = output.prompt_logprobs
            else:
                assert output.prompt_logprobs is None, "only the first output has them"
            answer.token_ids += output.token_ids
            answer.logprobs += output.logprobs or ()
            answer.finish_reason = output.finish_reason

    def run(self, *requests: GenerationRequest) -> list[Answer]:
        """To the end; the answers to these requests."""
        self.add(*requests)
        while self.core.has_requests:
            self.step()
        assert self.stats.num_used_blocks == 0
        return [self.answers[request.request_id] for request in requests]


def asked(request_id: str, prompt: Sequence[int], **params: object) -> GenerationRequest:
    """Greedy and without an early end."""
    chosen = SamplingParams(**{"max_tokens": 6, "temperature": 0.0, "ignore_eos": True, **params})  # type: ignore[arg-type]
    return GenerationRequest(request_id=request_id, prompt_token_ids=list(prompt), params=chosen)


def siblings(request: GenerationRequest, n: int) -> list[GenerationRequest]:
    return [
        replace(request, request_id=f"{request.request_id}-{at}", parent_id=request.request_id, index=at)
        for at in range(n)
    ]
