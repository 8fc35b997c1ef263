"""Loads a model and computes steps with it: a scheduled batch in, sampled tokens out.

Knows neither queues nor text. Synchronous and single-threaded.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from specserve.engine.api import ModelInfo
from specserve.engine.attention.backend import AttentionBackend, LayerCache
from specserve.engine.attention.cache_dtype import capacity_note, with_cache_dtype
from specserve.engine.attention.cache_filling import CacheFiller
from specserve.engine.attention.select import select_backend
from specserve.engine.attention.xformers_check import first_line
from specserve.engine.batch import ScheduledBatch, ScheduledRequest, StepOutput
from specserve.engine.config import EngineConfig
from specserve.engine.context_length import choose_max_model_len
from specserve.engine.models.load import LoadedModel, Percents, load_model, release_files
from specserve.engine.models.rotary_scaling import fix_rotary_scaling
from specserve.engine.native.build import has_to_build
from specserve.engine.params import SamplingParams
from specserve.engine.prefill_budget import PrefillBudget
from specserve.engine.request import Request
from specserve.engine.runner.cuda_graphs import CudaRecorder, DecodeGraphs, GraphClock
from specserve.engine.runner.determinism import first_difference, settle
from specserve.engine.runner.embeddings import input_embeddings
from specserve.engine.runner.forward import CapturableForward, Forward, prepare_forward
from specserve.engine.runner.gpu_memory import measured_cache_bytes
from specserve.engine.runner.inputs import PromptRows, StepInputs, build_inputs, sorted_by_adapter
from specserve.engine.runner.launching import DecodeLauncher
from specserve.engine.runner.memory import (
    available_memory,
    choose_draft_rows,
    choose_num_blocks,
    choose_num_threads,
    choose_prefill_budget,
    choose_reported_rows,
    choose_token_budget,
)
from specserve.engine.runner.probing import probe_layers
from specserve.engine.sampling.grammar_masks import MaskFiller, StepMasks
from specserve.engine.sampling.logprobs import prompt_logprobs
from specserve.engine.sampling.metadata import SamplingMetadata
from specserve.engine.sampling.sampler import NOT_FINITE, Sampler
from specserve.engine.sampling.verification import DraftedRequest, Verifier
from specserve.engine.speculative.drafter import describe_drafts

logger = logging.getLogger(__name__)

READING = 0.4
"""Part of the loading progress that reading takes; packing takes most of the rest (measured on a 1 GB checkpoint)."""


class ModelRunner:
    """Created by `load`, which is slow; afterwards `execute` is called once per step."""

    def __init__(
        self,
        loaded: LoadedModel,
        backend: AttentionBackend,
        forward: Forward,
        *,
        num_blocks: int,
        max_model_len: int,
        max_num_batched_tokens: int,
        seed: int,
        notes: tuple[str, ...],
        accepts_prompt_embeds: bool = False,
        graphs: DecodeGraphs | None = None,
        caches: Sequence[LayerCache] = (),
        prefill_budget: PrefillBudget | None = None,
    ) -> None:
        self.max_num_batched_tokens = max_num_batched_tokens
        self._model = loaded.model
        self._device = loaded.device
        self._backend = backend
        self._forward = forward
        self.adapter_form = forward.adapters
        self._eos_token_ids = loaded.eos_token_ids
        self._sampler = Sampler(seed=seed)
        self._graphs = graphs
        self._caches = caches
        self.launcher = None if graphs is None else DecodeLauncher(graphs, self._sampler, loaded.eos_token_ids)
        """What can leave a step of decodes to the device; None where every step is waited for."""
        on_cpu = loaded.device.type == "cpu"
        self._masks = MaskFiller(
            int(loaded.config.vocab_size),
            loaded.eos_token_ids,
            num_threads=torch.get_num_threads() if on_cpu else 4,
            fill_all_ahead=not on_cpu,
        )
        self._verifier = Verifier(self._sampler, self._masks, loaded.eos_token_ids)
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
        self.prefill_budget = prefill_budget
        self.max_draft_rows = choose_draft_rows(loaded.device)

    @classmethod
    def load(cls, config: EngineConfig, progress: Callable[[str, float], None]) -> ModelRunner:
        """Load the model, choose attention backend and cache size, allocate.

        `progress` gets a phase in words and a fraction from 0 to 1. Raises a StartupError: ModelLoadError,
        UnsupportedModelError or InsufficientMemoryError.
        """
        torch.set_num_threads(choose_num_threads(config.num_threads, config.num_engines))
        loaded = load_model(config.model, lambda phase, done: progress(phase, READING * done))
        max_model_len = choose_max_model_len(loaded.config, config.model.max_model_len)
        notes = [*loaded.notes, *fix_rotary_scaling(loaded.model, max_model_len)]
        specs = with_cache_dtype(probe_layers(loaded), config.cache.dtype, loaded.device)
        if loaded.device.type == "cpu" and has_to_build():
            progress("building CPU kernels", READING)
        backend = select_backend(
            config.model.attention_backend, list(specs.values()), loaded.device, config.cache.block_size
        )
        describe = getattr(backend, "describe", None)
        notes += describe() if describe is not None else []

        packing = Percents(lambda done: progress("packing weights", READING + (0.9 - READING) * done))
        forward = prepare_forward(loaded, specs, backend, packing, with_adapters=config.lora.is_enabled)
        notes += forward.notes
        release_files(loaded.model)
        notes += [] if config.speculative is None else [describe_drafts(config.speculative)]
        token_budget = choose_token_budget(config.scheduler, loaded.device)
        is_captured = loaded.device.type == "cuda" and not config.model.enforce_eager
        captured = forward if is_captured and isinstance(forward, CapturableForward) else None
        if captured is not None:
            progress("measuring ways to compute a step", 0.9)
            notes += captured.tune(GraphClock())
        if loaded.device.type == "cuda":
            progress("measuring a step's memory", 0.9)
            available = measured_cache_bytes(forward, backend, loaded.device, token_budget, max_model_len, config)
        else:
            available = available_memory()
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
        notes += capacity_note(specs, num_blocks * backend.block_size, num_blocks * backend.bytes_per_block())
        caches = backend.allocate(num_blocks)
        forward.bind(caches)
        graphs = None
        if captured is not None:
            graphs = DecodeGraphs(
                captured.decode,
                backend,
                CudaRecorder(),
                loaded.device,
                max_num_seqs=config.scheduler.max_num_seqs,
                max_model_len=max_model_len,
            )
        return cls(
            loaded,
            backend,
            forward,
            num_blocks=num_blocks,
            max_model_len=max_model_len,
            max_num_batched_tokens=token_budget,
            seed=config.model.seed,
            notes=tuple(notes),
            accepts_prompt_embeds=config.enable_prompt_embeds,
            graphs=graphs,
            caches=caches,
            prefill_budget=choose_prefill_budget(config.scheduler, loaded.device),
        ).settled(config.deterministic)

    def settled(self, is_deterministic: bool | None) -> ModelRunner:
        """Itself, once it is settled whether equal requests get equal bits. Raises UnsupportedModelError."""
        found = settle(is_deterministic, self._forward, self._backend, self._try_out)
        self.info = dataclasses.replace(self.info, is_deterministic=found.is_on, notes=(*self.info.notes, found.note))
        return self

    def _try_out(self) -> str | None:
        return first_difference(self.logits, self._vocab_size, self.info.block_size, self.info.num_blocks)

    def warm_up(self) -> None:
        """Run a prefill and a decode into the dummy block, so that no request meets first-time costs."""
        length = min(self._backend.block_size, self.max_num_batched_tokens, self._max_model_len)
        params = SamplingParams(max_tokens=1, temperature=0.8, top_k=8, top_p=0.9, logprobs=1)
        request = Request("warm-up", params, [0] * length, length, block_table=[0])
        if self._graphs is not None:
            self._capture(self._graphs)
        self.execute(ScheduledBatch([ScheduledRequest(request, 0, length, True)], length))
        self.execute(ScheduledBatch([ScheduledRequest(request, length - 1, 1, True)], 1))

    def fill_cache(self) -> None:
        """Have the pages of the KV cache brought in, beside what else is done."""
        if self._device.type == "cpu":
            CacheFiller([tensor for cache in self._caches for tensor in (cache.keys, cache.values)]).start()

    @torch.inference_mode()
    def _capture(self, graphs: DecodeGraphs) -> None:
        """Every step of this model is waited for if one of its modules looks at the device."""
        try:
            graphs.capture(lambda done: None)
        except Exception as error:  # what a module does that cannot be captured is its own affair
            logger.warning("decode steps are not captured in CUDA graphs: %s", first_line(error))
            self._graphs = self.launcher = None

    @torch.inference_mode()
    def execute(self, batch: ScheduledBatch) -> StepOutput:
        """Compute one step: writes the scheduled tokens' keys and values, and samples where that is wanted.

        A request whose logits are not finite, or to which nothing is allowed, is in `failed` with the reason.
        """
        output = StepOutput()
        if not batch:
            return output
        if self._graphs is not None and self._graphs.holds(batch):
            sampling = [item.request for item in batch.requests]
            masks = self._masks.begin(sampling)
            return self._sampled(self._graphs.logits(batch.requests), sampling, masks, output)
        batch = sorted_by_adapter(batch)
        inputs = build_inputs(batch, self._backend.block_size, self._device)
        rows = inputs.sample_rows
        if inputs.draft_rows is not None:
            rows = torch.cat([rows, inputs.draft_rows])
        num_rows = len(rows)
        if inputs.prompt is not None:
            rows = torch.cat([rows, inputs.prompt.rows])
        masks = self._masks.begin(inputs.sampling)
        only_highest = inputs.prompt is None and masks is None and all(one.takes_highest for one in inputs.sampling)
        logits = self._logits(batch, inputs, rows, only_highest=only_highest)
        if inputs.prompt is not None:
            self._report_prompts(logits[num_rows:], inputs.prompt, output)
            logits = logits[:num_rows]
        return self._sampled(logits, inputs.sampling, masks, output, inputs.drafted)

    def _sampled(
        self,
        logits: Tensor,
        sampling: list[Request],
        masks: StepMasks | None,
        output: StepOutput,
        drafted: Sequence[DraftedRequest] = (),
    ) -> StepOutput:
        """Add to `output` what the rows of logits give their R requests: [R, V], or [R + D, V] with those of drafts."""
        if not sampling:
            return output
        if drafted:
            results = self._verifier.sample(logits, sampling, drafted, masks)
            output.further = {sampling[each.row].request_id: each.tokens[1:] for each in drafted}
        else:
            results = self._sampler.sample(logits, SamplingMetadata.of(sampling, self._eos_token_ids), masks)
        for request, result in zip(sampling, results, strict=True):
            if request.request_id in output.failed:
                continue
            if isinstance(result, str):
                output.failed[request.request_id] = result
                if request.matcher is not None and request.matcher.is_error():
                    output.refused.add(request.request_id)
            else:
                output.sampled[request.request_id] = result
        return output

    @torch.inference_mode()
    def logits(self, batch: ScheduledBatch) -> Tensor:
        """Compute one step and return [T, V] logits of all its tokens instead of sampling."""
        inputs = build_inputs(batch, self._backend.block_size, self._device)
        every = torch.arange(inputs.token_ids.shape[1], device=self._device)
        return self._logits(batch, inputs, every).clone()

    def _logits(self, batch: ScheduledBatch, inputs: StepInputs, rows: Tensor, *, only_highest: bool = False) -> Tensor:
        """Logits [R, V] of the given rows [R]; see `Forward`."""
        self._backend.plan(inputs.attention)
        embeddings = None
        if self.info.accepts_prompt_embeds:
            embeddings = input_embeddings(batch, inputs.token_ids, self._model.get_input_embeddings())
        return self._forward(inputs, embeddings, rows, only_highest=only_highest)

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
