"""A whole engine without processes over random weights and a real tokenizer, for constrained answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tiny_checkpoints import load_runner, write_checkpoint
from trained_tokenizers import byte_level

from specserve.engine.api import FinishReason, GenerationOutput, GenerationRequest, Tokenizer
from specserve.engine.core import EngineCore, Runner
from specserve.engine.errors import EngineError
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.store import GrammarStore
from specserve.engine.grammars.vocabulary import Vocabulary
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.output_processor import OutputProcessor
from specserve.engine.params import SamplingParams
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.scheduler import Scheduler
from specserve.engine.tokenizer import load_tokenizer

VOCAB_SIZE = 448
PROMPT = "hello "


@dataclass
class Answer:
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    outputs: list[GenerationOutput] = field(default_factory=list)
    reason: FinishReason | None = None
    error: EngineError | None = None


class ConstrainedEngine:
    """`checked` as the API process would do it; `answer` runs requests to their ends, all at once."""

    def __init__(
        self, folder: Path, *, num_blocks: int = 400, max_model_len: int = 512, max_num_seqs: int = 16
    ) -> None:
        self.runner: ModelRunner = load_runner(folder, "cpu", max_model_len=max_model_len, num_blocks=num_blocks)
        self.tokenizer: Tokenizer = load_tokenizer(folder)
        info = self.runner.info
        self.vocabulary = Vocabulary.of(self.tokenizer, info.vocab_size, info.eos_token_ids)
        self.compiler = GrammarCompiler(self.vocabulary)
        self.store = GrammarStore(lambda: self.vocabulary)
        self._num_blocks, self._max_num_seqs = num_blocks, max_num_seqs

    def core(self, runner: Runner | None = None, *, num_blocks: int | None = None) -> EngineCore:
        info = self.runner.info
        scheduler = Scheduler(
            KVCacheManager(num_blocks or self._num_blocks, info.block_size),
            max_num_seqs=self._max_num_seqs,
            max_num_batched_tokens=64,
            max_model_len=info.max_model_len,
            eos_token_ids=info.eos_token_ids,
        )
        return EngineCore(scheduler, runner or self.runner, self.store)

    def checked(self, spec: GrammarSpec) -> GrammarSpec:
        return self.compiler.check(spec)

    def request(self, request_id: str, params: SamplingParams, prompt: str = PROMPT) -> GenerationRequest:
        token_ids = self.tokenizer.encode(prompt, add_special_tokens=False)
        return GenerationRequest(request_id=request_id, prompt_token_ids=token_ids, params=params)

    def answer(self, params: Sequence[SamplingParams], core: EngineCore | None = None) -> list[Answer]:
        requests = [self.request(f"r{at}", chosen) for at, chosen in enumerate(params)]
        answers = self.run(core or self.core(), requests)
        return [answers[request.request_id] for request in requests]

    def run(self, core: EngineCore, requests: Sequence[GenerationRequest]) -> dict[str, Answer]:
        processor = OutputProcessor(self.tokenizer)
        answers = {request.request_id: Answer() for request in requests}
        for request in requests:
            processor.add(request)
        pending = core.add(requests)
        while core.has_requests or pending:
            pending += core.step() if core.has_requests else []
            for gained in pending:
                answer = answers[gained.request_id]
                try:
                    processed = processor.process(gained)
                except EngineError as error:
                    answer.error = error
                    continue
                if processed is None:
                    continue
                output, engine_goes_on = processed
                answer.outputs.append(output)
                answer.text += output.text
                answer.token_ids += output.token_ids
                answer.reason = output.finish_reason
                if engine_goes_on:
                    core.abort([gained.request_id])
            pending = []
            if core.is_stalled:
                time.sleep(0.001)  # a grammar is being compiled
        return answers


def write_folder(folder: Path) -> Path:
    """A Llama with random weights, large enough to prefer some tokens, and a byte-level tokenizer."""
    byte_level(folder)
    eos_token_id = load_tokenizer(folder).eos_token_ids[0]
    return write_checkpoint("llama", folder, vocab_size=VOCAB_SIZE, eos_token_id=eos_token_id, seed=3)
