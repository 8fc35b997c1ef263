"""Loads a model that embeds or classifies, and computes steps with it: a scheduled batch in, pooled values out.

Knows neither queues nor text. Encoders see a text whole in one step and keep nothing; causal decoders go through the
paged cache, in chunks and with shared prefixes, as when they generate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from specserve.engine.api import ModelInfo
from specserve.engine.attention.backend import AttentionBackend
from specserve.engine.attention.cache_dtype import refuse_without_cache, with_cache_dtype
from specserve.engine.attention.select import select_backend
from specserve.engine.batch import PackedRows, ScheduledBatch, ScheduledRequest, StepOutput
from specserve.engine.config import EngineConfig
from specserve.engine.context_length import choose_max_model_len
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.kv_cache.nothing_kept import NothingKept
from specserve.engine.lora.linears import AdapterForm
from specserve.engine.models.load import Percents, release_files
from specserve.engine.models.rotary_scaling import fix_rotary_scaling
from specserve.engine.native.build import has_to_build
from specserve.engine.params import PoolingParams, PoolingTask
from specserve.engine.pooling.late_interaction import late_interaction_ids
from specserve.engine.pooling.load import LoadedPooler, load_pooler
from specserve.engine.request import NOTHING_GENERATED, Request
from specserve.engine.runner.determinism import settle_pooling
from specserve.engine.runner.forward import Forward, prepare_forward
from specserve.engine.runner.gpu_memory import measured_cache_bytes
from specserve.engine.runner.inputs import build_inputs, sorted_by_adapter
from specserve.engine.runner.memory import (
    available_memory,
    choose_encoder_budget,
    choose_num_blocks,
    choose_num_threads,
    choose_token_budget,
)
from specserve.engine.runner.probing import probe_layers
from specserve.engine.runner.whole_sequences import WholeSequences, first_position
from specserve.engine.tokenizer import load_tokenizer

READING = 0.6
"""Part of the loading progress that reading takes."""
NOT_FINITE = "the model's output for this input is not finite; check the model and its data type"
NO_CACHE = "none"


class HiddenStates(Protocol):
    """From a step's batch to hidden states: all of a request's tokens in this step, or only the wanted ones."""

    notes: list[str]
    adapter_form: AdapterForm | None

    def __call__(self, batch: ScheduledBatch, wanted: Sequence[range]) -> list[Tensor]:
        """wanted[i] are those of the request's new tokens whose rows are returned: [len(wanted[i]), H]."""


class WholeTexts:
    """Encoders: every request of a batch is complete in it."""

    def __init__(self, sequences: WholeSequences) -> None:
        self._sequences = sequences
        self.notes = sequences.notes
        self.adapter_form: AdapterForm | None = None

    def __call__(self, batch: ScheduledBatch, wanted: Sequence[range]) -> list[Tensor]:
        hidden = self._sequences([item.request for item in batch.requests])
        return [one[rows.start : rows.stop] for one, rows in zip(hidden, wanted, strict=True)]


class PagedChunks:
    """Causal decoders: new tokens over keys and values in blocks."""

    def __init__(self, backend: AttentionBackend, forward: Forward, device: torch.device) -> None:
        self._backend, self._forward, self._device = backend, forward, device
        self.notes = forward.notes
        self.adapter_form = forward.adapters

    def __call__(self, batch: ScheduledBatch, wanted: Sequence[range]) -> list[Tensor]:
        inputs = build_inputs(batch, self._backend.block_size, self._device)
        first = 0
        rows: list[int] = []
        for item, some in zip(batch.requests, wanted, strict=True):
            rows += range(first + some.start, first + some.stop)
            first += item.num_new_tokens
        self._backend.plan(inputs.attention)
        hidden = self._forward(inputs, None, torch.tensor(rows, dtype=torch.int64, device=self._device))
        return list(torch.split(hidden, [len(some) for some in wanted]))


class PoolingRunner:
    """Created by `load`, which is slow; afterwards `execute` is called once per step."""

    max_reported_rows: int | None = None

    def __init__(
        self,
        pooler: LoadedPooler,
        hidden_states: HiddenStates,
        info: ModelInfo,
        *,
        max_num_batched_tokens: int,
    ) -> None:
        self.max_num_batched_tokens = max_num_batched_tokens
        self.info = info
        self.computes_whole_prompts = not pooler.is_causal
        self._pooler = pooler
        self._head = pooler.head
        self._hidden_states = hidden_states
        self.adapter_form = hidden_states.adapter_form

    @classmethod
    def load(cls, config: EngineConfig, progress: Callable[[str, float], None]) -> PoolingRunner:
        """`progress` gets a phase in words and a fraction from 0 to 1. Raises a StartupError."""
        torch.set_num_threads(choose_num_threads(config.num_threads, config.num_engines))
        pooler = load_pooler(config.model, lambda phase, done: progress(phase, READING * done))
        loaded = pooler.body
        determinism = settle_pooling(config.deterministic, loaded.device)
        max_model_len = choose_text_length(pooler, config.model.max_model_len)
        notes = [*loaded.notes, *fix_rotary_scaling(loaded.model, max_model_len)]
        if loaded.device.type == "cpu" and has_to_build():
            progress("building CPU kernels", READING)
        packing = Percents(lambda done: progress("packing weights", READING + (0.9 - READING) * done))
        if pooler.is_causal:
            hidden_states: HiddenStates
            budget = choose_token_budget(config.scheduler, loaded.device)
            hidden_states, backend, num_blocks = _paged(pooler, config, max_model_len, budget, packing, progress)
            describe = getattr(backend, "describe", None)
            notes += describe() if describe is not None else []
            attention, block_size, has_types = backend.name, backend.block_size, False
        else:
            refuse_without_cache(config.cache.dtype)
            sequences = WholeSequences(pooler, packing)
            hidden_states = WholeTexts(sequences)
            budget = choose_encoder_budget(config.scheduler, max_model_len, loaded.device)
            attention, block_size, num_blocks, has_types = NO_CACHE, max_model_len, 1, sequences.has_token_types
        release_files(loaded.model)
        info = _info(
            pooler,
            [*notes, *hidden_states.notes, determinism.note],
            max_model_len,
            attention,
            block_size,
            num_blocks,
            has_types,
        )
        info = dataclasses.replace(info, is_deterministic=determinism.is_on)
        return cls(pooler, hidden_states, info, max_num_batched_tokens=budget)

    def make_cache(self, enable_prefix_caching: bool) -> KVCacheManager:
        if self.computes_whole_prompts:
            return NothingKept(self.info.max_model_len)
        return KVCacheManager(self.info.num_blocks, self.info.block_size, enable_prefix_caching)

    def reads_all_hidden(self, params: PoolingParams) -> bool:
        return self._head.reads_all(params)

    def warm_up(self) -> None:
        """Run one batch of every task, so that no request meets first-time costs."""
        length = min(16, self.max_num_batched_tokens, self.info.max_model_len)
        for task in self.info.tasks:
            params = PoolingParams(task=PoolingTask(task))
            request = Request("warm-up", NOTHING_GENERATED, [0] * length, length, pooling=params)
            request.block_table = [0] * -(-length // self.info.block_size)
            self.execute(ScheduledBatch([ScheduledRequest(request, 0, length, False)], length))

    @torch.inference_mode()
    def execute(self, batch: ScheduledBatch) -> StepOutput:
        """Compute one step; requests whose last token is in it are pooled, or in `failed` if that is not finite."""
        output = StepOutput()
        if not batch:
            return output
        batch = sorted_by_adapter(batch)
        finished: list[Request] = []
        wanted = []
        for item in batch.requests:
            assert item.request.pooling is not None
            is_last = item.start + item.num_new_tokens == item.request.num_prompt_tokens
            if self._head.reads_all(item.request.pooling):
                wanted.append(range(item.num_new_tokens))
            else:
                wanted.append(range(item.num_new_tokens - is_last, item.num_new_tokens))
        for item, rows in zip(batch.requests, self._hidden_states(batch, wanted), strict=True):
            request = item.request
            if item.start == 0:
                request.hidden_chunks = []
            request.hidden_chunks.append(rows)
            if item.start + item.num_new_tokens == request.num_prompt_tokens:
                finished.append(request)
        self._pool(finished, output)
        return output

    def _pool(self, requests: list[Request], output: StepOutput) -> None:
        hidden = []
        for request in requests:
            chunks, request.hidden_chunks = request.hidden_chunks, []
            hidden.append(chunks[0] if len(chunks) == 1 else torch.cat(chunks))
        for request, values in zip(requests, self._head(hidden, requests) if requests else (), strict=True):
            if bool(torch.isfinite(values).all()):
                output.pooled[request.request_id] = PackedRows.of(values.float().cpu().numpy())
            else:
                output.failed[request.request_id] = NOT_FINITE


def choose_text_length(pooler: LoadedPooler, asked: int | None) -> int:
    """Tokens of a text: `asked`, or what the folder says its authors used, within what the model can take."""
    longest = choose_max_model_len(pooler.body.config, None)
    longest -= first_position(pooler.body.model)  # positions that RoBERTa and its kind never use
    if asked is None:
        return min(longest, pooler.folder.max_tokens or longest)
    if asked > longest:
        raise UnsupportedModelError(
            f"--max-model-len {asked} is more than the {longest} tokens the model was made for",
            f"pass at most {longest}",
        )
    return choose_max_model_len(pooler.body.config, asked)


def _paged(
    pooler: LoadedPooler,
    config: EngineConfig,
    max_model_len: int,
    budget: int,
    packing: Callable[[float], None],
    progress: Callable[[str, float], None],
) -> tuple[PagedChunks, AttentionBackend, int]:
    loaded = pooler.body
    specs = with_cache_dtype(probe_layers(loaded), config.cache.dtype, loaded.device)
    backend = select_backend(
        config.model.attention_backend, list(specs.values()), loaded.device, config.cache.block_size
    )
    forward = prepare_forward(loaded, specs, backend, packing, with_adapters=config.lora.is_enabled)
    available = (
        available_memory()
        if loaded.device.type == "cpu"
        else measured_cache_bytes(forward, backend, loaded.device, budget, max_model_len, config)
    )
    progress("allocating the KV cache", 0.92)
    num_blocks = choose_num_blocks(
        config.cache,
        block_size=backend.block_size,
        bytes_per_block=backend.bytes_per_block(),
        max_model_len=max_model_len,
        max_num_seqs=config.scheduler.max_num_seqs,
        available_bytes=available // config.num_engines,
        device=loaded.device,
    )
    forward.bind(backend.allocate(num_blocks))
    return PagedChunks(backend, forward, loaded.device), backend, num_blocks


def _info(
    pooler: LoadedPooler,
    notes: list[str],
    max_model_len: int,
    attention: str,
    block_size: int,
    num_blocks: int,
    has_token_types: bool,
) -> ModelInfo:
    loaded, folder = pooler.body, pooler.folder
    late = late_interaction_ids(folder, load_tokenizer(loaded.path)) if folder.is_late_interaction else {}
    expansion = late.get("query_expansion")
    if pooler.is_causal and expansion is not None and not expansion.is_seen:
        raise UnsupportedModelError(
            "queries are filled up with tokens that none sees, which takes an encoder, and this is a decoder",
            "set attend in query_expansion, or query_expansion to null",
        )
    return ModelInfo(
        path=str(loaded.path),
        architecture=loaded.architecture,
        device=str(loaded.device),
        dtype=str(loaded.dtype).removeprefix("torch."),
        attention_backend=attention,
        vocab_size=int(loaded.config.vocab_size),
        max_model_len=max_model_len,
        eos_token_ids=loaded.eos_token_ids,
        block_size=block_size,
        num_blocks=num_blocks,
        num_parameters=loaded.num_parameters,
        hidden_size=int(loaded.config.hidden_size),
        notes=tuple(notes),
        tasks=pooler.purpose.tasks,
        embedding_size=pooler.embedding_size,
        matryoshka_dimensions=matryoshka_dimensions(loaded.config),
        labels=pooler.labels,
        prompts=folder.prompts,
        default_prompt_name=folder.default_prompt_name,
        similarity=folder.similarity,
        has_token_types=has_token_types,
        is_late_interaction=folder.is_late_interaction,
        max_query_tokens=folder.max_query_tokens,
        max_document_tokens=folder.max_document_tokens,
        **late,
        is_decoder_reranker=pooler.purpose.scores is not None,
    )


def matryoshka_dimensions(config: object) -> tuple[int, ...] | None:
    listed = getattr(config, "matryoshka_dimensions", None)
    if listed:
        return tuple(sorted(map(int, listed)))
    return () if getattr(config, "is_matryoshka", False) else None
