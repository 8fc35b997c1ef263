"""What one step takes of a GPU's memory, measured before the KV cache gets the rest."""

from __future__ import annotations

import torch

from specserve.engine.attention.backend import AttentionBackend, AttentionMetadata
from specserve.engine.config import EngineConfig
from specserve.engine.runner.forward import Forward
from specserve.engine.runner.inputs import StepInputs
from specserve.engine.runner.memory import choose_draft_rows, gpu_cache_bytes

SAMPLING_COPIES = 4
"""Times the float32 logits that sampling holds at once: edited, weighed, sorted, and their ids."""


def longest_step(num_tokens: int, max_model_len: int, block_size: int, device: torch.device) -> StepInputs:
    """Prompts of `max_model_len` tokens and what is left of `num_tokens`, written nowhere and read from block 0."""
    query_lens = [max_model_len] * (num_tokens // max_model_len)
    query_lens += [num_tokens % max_model_len] if num_tokens % max_model_len else []
    width = -(-max(query_lens) // block_size)
    starts = torch.tensor([0, *query_lens]).cumsum(0)
    return StepInputs(
        token_ids=torch.zeros(1, num_tokens, dtype=torch.int64, device=device),
        positions=torch.cat([torch.arange(length) for length in query_lens])[None].to(device),
        sample_rows=torch.zeros(0, dtype=torch.int64, device=device),
        sampling=[],
        attention=AttentionMetadata(
            query_start=starts.to(device, torch.int32),
            seq_lens=torch.tensor(query_lens, dtype=torch.int32, device=device),
            block_tables=torch.zeros(len(query_lens), width, dtype=torch.int32, device=device),
            slot_mapping=torch.full((num_tokens,), -1, dtype=torch.int64, device=device),
            num_decodes=0,
            query_lens=query_lens,
            seq_lens_list=query_lens,
        ),
    )


@torch.inference_mode()
def peak_bytes_of_a_step(
    forward: Forward,
    backend: AttentionBackend,
    device: torch.device,
    num_tokens: int,
    max_model_len: int,
    num_rows: int,
) -> int:
    """Of `num_tokens` tokens and `num_rows` rows of logits, beyond what is allocated now. Binds a cache of a block."""
    inputs = longest_step(num_tokens, max_model_len, backend.block_size, device)
    forward.bind(backend.allocate(1))
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    backend.plan(inputs.attention)
    logits = forward(inputs, None, torch.zeros(num_rows, dtype=torch.int64, device=device))
    peak = int(torch.cuda.max_memory_allocated(device)) - before
    sampling = SAMPLING_COPIES * 4 * logits.numel()
    del logits
    forward.bind([])
    torch.cuda.empty_cache()
    return peak + sampling


def measured_cache_bytes(
    forward: Forward,
    backend: AttentionBackend,
    device: torch.device,
    token_budget: int,
    max_model_len: int,
    config: EngineConfig,
) -> int:
    """What is left for the cache once weights are loaded and the largest step has its room."""
    num_rows = config.scheduler.max_num_seqs + (0 if config.speculative is None else choose_draft_rows(device))
    step = peak_bytes_of_a_step(forward, backend, device, token_budget, max_model_len, num_rows)
    free, total = torch.cuda.mem_get_info(device)
    return gpu_cache_bytes(total, free, step, config.cache.gpu_memory_utilization)
