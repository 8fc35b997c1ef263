"""Loads a model and computes steps with it: a scheduled batch in, sampled tokens out.

Knows neither queues nor text. Synchronous and single-threaded.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from specserve.engine.api import ModelInfo
from specserve.engine.attention.backend import AttentionBackend, LayerSpec
from specserve.engine.attention.interface import PagedContext, ProbingContext, attention_context
from specserve.engine.attention.select import select_backend
from specserve.engine.batch import ScheduledBatch, ScheduledRequest, StepOutput
from specserve.engine.config import EngineConfig
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.models.context_length import choose_max_model_len, fix_rotary_scaling
from specserve.engine.models.load import LoadedModel, load_model, unreachable_attention
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.runner.embeddings import input_embeddings
from specserve.engine.runner.inputs import PromptRows, StepInputs, build_inputs
from specserve.engine.runner.memory import (
    available_memory,
    choose_num_blocks,
    choose_num_threads,
    choose_reported_rows,
    choose_token_budget,
)
from specserve.engine.sampling.logprobs import prompt_logprobs
from specserve.engine.sampling.metadata import SamplingMetadata
from specserve.engine.sampling.sampler import NOT_FINITE, Sampler

PROBE_TOKENS = 2


class ModelRunner:
    """Created by `load`, which is slow; afterwards `execute` is called once per step."""

    def __init__(
        self,
        loaded: LoadedModel,
        backend: AttentionBackend,
        slot_of: dict[int, int],
        *,
        num_blocks: int,
        max_model_len: int,
        max_num_batched_tokens: int,
        seed: int,
        notes: tuple[str, ...],
        accepts_prompt_embeds: bool = False,
    ) -> None:
        """`slot_of` maps a layer's index in the model to its place in the backend."""
        self.max_num_batched_tokens = max_num_batched_tokens
        self._model = loaded.model
        self._device = loaded.device
        self._backend = backend
        self._context = PagedContext(backend, backend.allocate(num_blocks), slot_of)
        self._keeps_rows = "logits_to_keep" in inspect.signature(loaded.model.forward).parameters
        self._eos_token_ids = loaded.eos_token_ids
        self._sampler = Sampler(seed=seed)
        self._max_model_len = max_model_len
        self._vocab_size = int(loaded.config.vocab_size)
        self.info = ModelInfo(
            path=str(loaded.path),
            architecture=loaded.architecture,
            device=str(loaded.device),
            dtype=str(loaded.dtype).removeprefix("torch."),
            attention_backend=backend.name,
            vocab_size=self._vocab_size,
            max_model_len=max_model_len,
            eos_token_ids=loaded.eos_token_ids,
            block_size=backend.block_size,
            num_blocks=num_blocks,
            num_parameters=loaded.num_parameters,
            hidden_size=int(loaded.model.get_input_embeddings().weight.shape[1]),
            accepts_prompt_embeds=accepts_prompt_embeds,
            notes=notes,
        )
        self.max_reported_rows = choose_reported_rows(self._vocab_size)

    @classmethod
    def load(cls, config: EngineConfig, progress: Callable[[str, float], None]) -> ModelRunner:
        """Load the model, choose attention backend and cache size, allocate.

        `progress` gets a phase in words and a fraction from 0 to 1. Raises a StartupError: ModelLoadError,
        UnsupportedModelError or InsufficientMemoryError.
        """
        torch.set_num_threads(choose_num_threads(config.num_threads))
        loaded = load_model(config.model, lambda phase, done: progress(phase, 0.9 * done))
        max_model_len = choose_max_model_len(loaded.config, config.model.max_model_len)
        notes = [*loaded.notes, *fix_rotary_scaling(loaded.model, max_model_len)]
        progress("allocating the KV cache", 0.92)
        specs = probe_layers(loaded)
        backend = select_backend(
            config.model.attention_backend, list(specs.values()), loaded.device, config.cache.block_size
        )
        describe = getattr(backend, "describe", None)
        notes += describe() if describe is not None else []
        num_blocks = choose_num_blocks(
            config.cache,
            block_size=backend.block_size,
            bytes_per_block=backend.bytes_per_block(),
            max_model_len=max_model_len,
            max_num_seqs=config.scheduler.max_num_seqs,
            available_bytes=available_memory(loaded.device),
            device=loaded.device,
        )
        return cls(
            loaded,
            backend,
            {index: slot for slot, index in enumerate(specs)},
            num_blocks=num_blocks,
            max_model_len=max_model_len,
            max_num_batched_tokens=choose_token_budget(config.scheduler, loaded.device),
            seed=config.model.seed,
            notes=tuple(notes),
            accepts_prompt_embeds=config.enable_prompt_embeds,
        )

    def warm_up(self) -> None:
        """Run a prefill and a decode into the dummy block, so that no request meets first-time costs."""
        length = min(self._backend.block_size, self.max_num_batched_tokens, self._max_model_len)
        params = SamplingParams(max_tokens=1, temperature=0.8, top_k=8, top_p=0.9, logprobs=1)
        request = Request("warm-up", params, [0] * length, length, block_table=[0])
        self.execute(ScheduledBatch([ScheduledRequest(request, 0, length, True)], length))
        self.execute(ScheduledBatch([ScheduledRequest(request, length - 1, 1, True)], 1))

    @torch.inference_mode()
    def execute(self, batch: ScheduledBatch) -> StepOutput:
        """Compute one step: writes the scheduled tokens' keys and values, and samples where that is wanted.

        A request whose logits are not finite, or to which nothing is allowed, is in `failed` with the reason.
        """
        output = StepOutput()
        if not batch:
            return output
        inputs = build_inputs(batch, self._backend.block_size, self._device)
        rows = inputs.sample_rows
        if inputs.prompt is not None:
            rows = torch.cat([rows, inputs.prompt.rows])
        logits = self._forward(batch, inputs, rows)
        if inputs.prompt is not None:
            self._report_prompts(logits[len(inputs.sampling) :], inputs.prompt, output)
            logits = logits[: len(inputs.sampling)]
        if not inputs.sampling:
            return output
        metadata = SamplingMetadata.of(inputs.sampling, self._eos_token_ids)
        for request, result in zip(inputs.sampling, self._sampler.sample(logits, metadata), strict=True):
            if request.request_id in output.failed:
                continue
            if isinstance(result, str):
                output.failed[request.request_id] = result
            else:
                output.sampled[request.request_id] = result
        return output

    @torch.inference_mode()
    def logits(self, batch: ScheduledBatch) -> Tensor:
        """Compute one step and return [T, V] logits of all its tokens instead of sampling."""
        inputs = build_inputs(batch, self._backend.block_size, self._device)
        every = torch.arange(inputs.token_ids.shape[1], device=self._device)
        return self._forward(batch, inputs, every)

    def _forward(self, batch: ScheduledBatch, inputs: StepInputs, rows: Tensor) -> Tensor:
        """Logits [R, V] of the given rows [R]."""
        self._backend.plan(inputs.attention)
        arguments: dict[str, Any] = {"logits_to_keep": rows} if self._keeps_rows else {}
        embeddings = None
        if self.info.accepts_prompt_embeds:
            embeddings = input_embeddings(batch, inputs.token_ids, self._model.get_input_embeddings())
        if embeddings is None:
            arguments["input_ids"] = inputs.token_ids
        else:
            arguments["inputs_embeds"] = embeddings
        with attention_context(self._context):
            logits: Tensor = self._model(position_ids=inputs.positions, use_cache=False, **arguments).logits[0]
        return logits if self._keeps_rows else logits[rows]

    def _report_prompts(self, logits: Tensor, prompt: PromptRows, output: StepOutput) -> None:
        """logits [P, V] of the prompts' rows."""
        counts = [count for _, count in prompt.requests]
        pieces = zip(torch.split(logits, counts), torch.split(prompt.token_ids, counts), strict=True)
        for (request, _), (rows, token_ids) in zip(prompt.requests, pieces, strict=True):
            packed = prompt_logprobs(rows, token_ids, request.params.prompt_logprobs or 0)
            if packed is None:
                output.failed[request.request_id] = NOT_FINITE
            else:
                output.prompt_logprobs[request.request_id] = packed


@torch.inference_mode()
def probe_layers(loaded: LoadedModel) -> dict[int, LayerSpec]:
    """Each attention layer by its index, as a tiny forward pass calls it.

    Raises UnsupportedModelError when layers are missing (recurrent ones, attention of their own) or look
    ahead.
    """
    context = ProbingContext()
    ids = torch.zeros(1, PROBE_TOKENS, dtype=torch.long, device=loaded.device)
    positions = torch.arange(PROBE_TOKENS, device=loaded.device)[None]
    with attention_context(context):
        loaded.model(input_ids=ids, position_ids=positions, use_cache=False)
    num_layers = int(loaded.config.num_hidden_layers)
    if not context.specs:
        raise unreachable_attention(loaded.architecture)
    if len(context.specs) != num_layers:
        raise UnsupportedModelError(
            f"{loaded.architecture} computes attention in {len(context.specs)} of its {num_layers} layers; "
            "the others keep a state that paged blocks cannot hold",
            "serve a model whose layers are all attention layers",
        )
    if looking_ahead := _bidirectional_layers(loaded.model):
        raise UnsupportedModelError(
            f"{loaded.architecture} is not a decoder as configured: {looking_ahead} looks ahead",
            "set is_decoder in config.json if it was trained as one",
        )
    windows = _windows_of_masks(loaded.config, context.specs)
    return {
        index: dataclasses.replace(spec, window=windows.get(index, spec.window))
        for index, spec in sorted(context.specs.items())
    }


def _bidirectional_layers(model: nn.Module) -> str:
    for name, module in model.named_modules():
        if hasattr(module, "layer_idx") and getattr(module, "is_causal", True) is False:
            return str(name)
    return ""


def _windows_of_masks(config: Any, specs: dict[int, LayerSpec]) -> dict[int, int]:
    """Windows by layer for models that tell them to the mask only, not to the attention function."""
    window = getattr(config, "sliding_window", None)
    if not window or any(spec.window is not None for spec in specs.values()):
        return {}
    layer_types = getattr(config, "layer_types", None)
    if layer_types is None:
        return dict.fromkeys(specs, window)
    return {index: window for index in specs if layer_types[index] == "sliding_attention"}
