"""An engine without a model: it says what it is told to, over the demo model's tokenizer and the real text work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np
from fastapi import FastAPI
from linters import lint_stream as findings_in

from specserve.engine.api import (
    FinishReason,
    GenerationOutput,
    GenerationRequest,
    ModelInfo,
    Tokenizer,
    TokenLogprob,
    TokenLogprobs,
)
from specserve.engine.batch import PackedLogprobs, RequestProgress
from specserve.engine.errors import EngineDeadError, EngineError
from specserve.engine.output_processor import OutputProcessor
from specserve.engine.stats import EngineStats
from specserve.engine.tokenizer import load_tokenizer
from specserve.handlers.app import assemble
from specserve.handlers.context import Readiness, State
from specserve.handlers.demo import checkpoint_path
from specserve.handlers.generation_defaults import GenerationDefaults
from specserve.handlers.limits import Limits
from specserve.handlers.model_directory import ModelDirectory, Source

TOKENIZER = load_tokenizer(checkpoint_path())
UNLIKELY = float("-inf")


@dataclass
class FakeEngine:
    """`answer` says what the choice with a given index answers; then comes the end token.

    dies_after     the engine stops after so many tokens
    refusal        raised by `generate`
    pause_s        before every token
    num_cached     tokens of the prompt that were found in the cache, by index
    """

    answer: Callable[[GenerationRequest], str] = lambda request: "The capital of France is Paris."
    dies_after: int | None = None
    refusal: EngineError | None = None
    pause_s: float = 0.0
    num_cached: Callable[[GenerationRequest], int] = lambda request: 0
    max_model_len: int = 256
    tokenizer: Tokenizer = TOKENIZER
    requests: list[GenerationRequest] = field(default_factory=list)

    @property
    def model(self) -> ModelInfo:
        return ModelInfo(
            path="/models/fake",
            architecture="none",
            device="cpu",
            dtype="none",
            attention_backend="none",
            vocab_size=TOKENIZER.vocab_size,
            max_model_len=self.max_model_len,
            eos_token_ids=TOKENIZER.eos_token_ids,
            block_size=16,
            num_blocks=100,
            num_parameters=0,
        )

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]:
        if self.refusal is not None:
            raise self.refusal
        self.requests.append(request)
        return self._outputs(request)

    async def _outputs(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]:
        token_ids = [*TOKENIZER.encode(self.answer(request), add_special_tokens=False), TOKENIZER.eos_token_ids[0]]
        processor = OutputProcessor(TOKENIZER)
        processor.add(request)
        for progress in prompt_progress(request):
            assert processor.process(progress) is None
        if request.params.max_tokens == 0:
            processed = processor.process(
                RequestProgress(request.request_id, [], None, FinishReason.LENGTH, None, self.num_cached(request))
            )
            assert processed is not None
            yield processed[0]
            return
        for number, token_id in enumerate(token_ids, start=1):
            await asyncio.sleep(self.pause_s)
            if number - 1 == self.dies_after:
                raise EngineDeadError("the engine process ended with exit code 9")
            is_end = token_id in TOKENIZER.eos_token_ids
            is_long = number == request.params.max_tokens
            reason = FinishReason.STOP if is_end else FinishReason.LENGTH if is_long else None
            stop_id = token_id if token_id in request.params.stop_token_ids else None
            progress = RequestProgress(
                request_id=request.request_id,
                token_ids=[token_id],
                logprobs=logprobs_of(token_id, request.params.logprobs),
                finish_reason=FinishReason.STOP if stop_id is not None else reason,
                stop_reason=stop_id,
                num_cached_tokens=self.num_cached(request),
            )
            processed = processor.process(progress)
            assert processed is not None
            yield processed[0]
            if processed[0].finish_reason is not None:
                return

    def stats(self) -> EngineStats:
        return EngineStats()

    def check_health(self) -> None:
        if self.refusal is not None:
            raise self.refusal


def prompt_progress(request: GenerationRequest) -> list[RequestProgress]:
    """The prompt in two chunks; a token's rank is its place, and its alternatives are the ids after it, less likely."""
    num_top, prompt = request.params.prompt_logprobs, list(request.prompt_token_ids)
    if num_top is None:
        return []
    found = []
    for places in (range(1, min(3, len(prompt))), range(3, len(prompt))):
        if not places:
            continue
        ids = np.array([[prompt[at] + step for step in range(num_top + 1)] for at in places], dtype=np.int32)
        logprobs = np.array([[-0.5 - step for step in range(num_top + 1)] for _ in places], dtype=np.float32)
        ranks = np.array(places, dtype=np.int32)
        packed = PackedLogprobs(num_top, ids.tobytes(), logprobs.tobytes(), ranks.tobytes())
        found.append(RequestProgress(request.request_id, [], None, None, None, 0, prompt_logprobs=packed))
    return found


def logprobs_of(token_id: int, num_top: int | None) -> list[TokenLogprobs] | None:
    """The sampled token, and `num_top` candidates of which the last is impossible."""
    if num_top is None:
        return None
    top = [TokenLogprob(token_id=token_id, logprob=-0.5, rank=1)]
    top += [TokenLogprob(token_id=300 + rank, logprob=UNLIKELY, rank=rank) for rank in range(2, num_top + 1)]
    return [TokenLogprobs(sampled=top[0], top=tuple(top[:num_top]))]


@dataclass
class Condition:
    """A `Readiness` that stays as it is."""

    state: State = "ready"
    phase: str = "ready"
    progress: float | None = None

    def when_draining(self, call: Callable[[], None]) -> None:
        """Never: a condition does not change."""

    def wait_for(self, work: asyncio.Task[None]) -> None:
        """There is no drain."""


def app_over(
    engine: FakeEngine,
    *,
    readiness: Readiness | None = None,
    api_keys: tuple[str, ...] = (),
    limits: Limits | None = None,
    defaults: GenerationDefaults | None = None,
    names: tuple[str, ...] = ("fake", "alias"),
    **options: Any,
) -> FastAPI:
    """`options` are those of `assemble`."""
    return assemble(
        directory=ModelDirectory(Source(names, lambda: engine, lambda model: defaults or GenerationDefaults())),
        engine=lambda: engine,
        readiness=readiness or Condition(),
        api_keys=api_keys,
        limits=limits,
        **options,
    )


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    """A client that holds every stream it gets against the rules of streams."""
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app), base_url="http://server", event_hooks={"response": [lint_stream]}
    )


async def lint_stream(response: httpx2.Response) -> None:
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        await response.aread()
        sent = json.loads(response.request.content or "null") or dict(response.request.url.params)
        findings = findings_in(response.text, response.request.url.path, sent)
        assert findings == []
