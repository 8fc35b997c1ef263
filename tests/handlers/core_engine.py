"""The engine without processes and without a model: real scheduling and text work, tokens from a script."""

from __future__ import annotations

import asyncio

from fake_engine import TOKENIZER, FakeEngine, logprobs_of

from specserve.engine.api import GenerationRequest, ModelInfo, Tokenizer
from specserve.engine.batch import RequestProgress, SampledToken, ScheduledBatch, StepOutput
from specserve.engine.core import EngineCore
from specserve.engine.generation import Generation
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.output_processor import OutputProcessor
from specserve.engine.scheduler import Scheduler
from specserve.engine.stats import EngineStats

BLOCK_SIZE, NUM_BLOCKS = 16, 101


class CoreEngine:
    """Says `script`, token by token and from its beginning again when it is through.

    End tokens are skipped as long as `min_tokens` forbids them: in a real engine the sampler does that.
    """

    tokenizer: Tokenizer = TOKENIZER

    def __init__(self, script: list[int], max_model_len: int = 256) -> None:
        self.model: ModelInfo = FakeEngine(max_model_len=max_model_len).model
        self._script = script
        scheduler = Scheduler(
            KVCacheManager(NUM_BLOCKS, BLOCK_SIZE),
            max_num_seqs=8,
            max_num_batched_tokens=64,
            max_model_len=max_model_len,
            eos_token_ids=TOKENIZER.eos_token_ids,
        )
        self._core = EngineCore(scheduler, self)
        self._texts = OutputProcessor(TOKENIZER)
        self._open: dict[str, tuple[GenerationRequest, Generation]] = {}
        self._at: dict[str, int] = {}
        self._stepping: asyncio.Task[None] | None = None

    def generate(self, request: GenerationRequest) -> Generation:
        generation = Generation(request.request_id, self.abort)
        self._open[request.request_id] = request, generation
        self._at[request.request_id] = 0
        self._texts.add(request)
        self._deliver(self._core.add([request]))
        if self._stepping is None or self._stepping.done():
            self._stepping = asyncio.create_task(self._step())
        return generation

    def abort(self, request_id: str) -> None:
        if self._open.pop(request_id, None) is not None:
            self._texts.remove(request_id)
            self._core.abort([request_id])

    def stats(self) -> EngineStats:
        return self._core.stats()

    def check_health(self) -> None:
        """It is always well."""

    def execute(self, batch: ScheduledBatch) -> StepOutput:
        """The runner's part: the next token of the script for everyone who samples."""
        output = StepOutput()
        for item in batch.requests:
            if item.samples:
                request, _ = self._open[item.request.request_id]
                token_id = self._next(request, len(item.request.token_ids) - len(request.prompt_token_ids))
                alternatives = logprobs_of(token_id, request.params.logprobs)
                output.sampled[request.request_id] = SampledToken(token_id, alternatives and alternatives[0])
        return output

    def _next(self, request: GenerationRequest, num_generated: int) -> int:
        ends = {*TOKENIZER.eos_token_ids, *request.params.stop_token_ids}
        while True:
            token_id = self._script[self._at[request.request_id] % len(self._script)]
            self._at[request.request_id] += 1
            if token_id not in ends or num_generated >= request.params.min_tokens:
                return token_id

    async def _step(self) -> None:
        while self._core.has_requests:
            await asyncio.sleep(0)
            self._deliver(self._core.step())

    def _deliver(self, progress: list[RequestProgress]) -> None:
        for gained in progress:
            processed = self._texts.process(gained)
            if processed is None:
                continue  # its caller has left
            output, engine_goes_on = processed
            _, generation = self._open[gained.request_id]
            if output.finish_reason is not None:
                del self._open[gained.request_id]
            if engine_goes_on:
                self._core.abort([gained.request_id])
            generation.put(output)
