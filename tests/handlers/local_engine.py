"""A real engine in this process, over a tiny checkpoint: no second process to start, nothing pretended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import tiny_checkpoints
import torch
import trained_tokenizers

from specserve.engine.api import GenerationOutput, GenerationRequest
from specserve.engine.batch import RequestProgress
from specserve.engine.core import EngineCore
from specserve.engine.errors import EngineError
from specserve.engine.generation import Generation
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.output_processor import OutputProcessor
from specserve.engine.scheduler import Scheduler
from specserve.engine.stats import EngineStats
from specserve.engine.tokenizer import load_tokenizer

NUM_BLOCKS = 256


def write_model(folder: Path, tokenizer: str = "byte_level", architecture: str = "llama") -> Path:
    """A random fp32 model with a tokenizer of the given kind, as a folder of the hub holds them."""
    trained_tokenizers.KINDS[tokenizer](folder)
    vocab_size = load_tokenizer(folder).vocab_size
    tiny_checkpoints.write_checkpoint(architecture, folder, torch.float32, vocab_size=vocab_size, eos_token_id=2)
    return folder


class LocalGeneration(Generation):
    """Computes steps until there is something to tell."""

    def __init__(self, request_id: str, abort: Callable[[str], None], step: Callable[[], None]) -> None:
        super().__init__(request_id, abort)
        self._step = step

    async def asend(self, value: None) -> GenerationOutput:
        while self._arrived.empty() and not self._is_over:
            self._step()
            await asyncio.sleep(0)
        return await super().asend(value)


class LocalEngine:
    """Implements `api.Engine`; whoever waits for an output computes the next step."""

    def __init__(self, folder: Path, **limits: int) -> None:
        torch.set_num_threads(1)
        runner = tiny_checkpoints.load_runner(folder, num_blocks=NUM_BLOCKS, **limits)
        self.model = runner.info
        self.tokenizer = load_tokenizer(folder)
        cache = KVCacheManager(NUM_BLOCKS, self.model.block_size)
        scheduler = Scheduler(
            cache,
            max_num_seqs=16,
            max_num_batched_tokens=64,
            max_model_len=self.model.max_model_len,
            eos_token_ids=self.model.eos_token_ids,
        )
        self._core = EngineCore(scheduler, runner)
        self._outputs = OutputProcessor(self.tokenizer)
        self._open: dict[str, LocalGeneration] = {}
        self.requests: list[GenerationRequest] = []

    def generate(self, request: GenerationRequest) -> LocalGeneration:
        generation = LocalGeneration(request.request_id, self._abort, self._step)
        self.requests.append(request)
        self._outputs.add(request)
        self._open[request.request_id] = generation
        for refused in self._core.add([request]):
            self._take(refused)
        return generation

    @property
    def num_open(self) -> int:
        """Requests whose last output has not been delivered."""
        return len(self._open)

    def _abort(self, request_id: str) -> None:
        if self._open.pop(request_id, None) is not None:
            self._outputs.remove(request_id)
            self._core.abort([request_id])

    def _step(self) -> None:
        for progress in self._core.step():
            self._take(progress)

    def _take(self, progress: RequestProgress) -> None:
        try:
            processed = self._outputs.process(progress)
        except EngineError as error:
            self._open.pop(progress.request_id).put(error)
            return
        if processed is None:
            return
        output, engine_goes_on = processed
        generation = self._open[output.request_id]
        if output.finish_reason is not None:
            del self._open[output.request_id]
        if engine_goes_on:
            self._core.abort([output.request_id])
        generation.put(output)

    def stats(self) -> EngineStats:
        return self._core.stats()

    def check_health(self) -> None:
        return None
