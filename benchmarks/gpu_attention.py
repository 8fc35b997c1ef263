"""Attention of every paged backend on a GPU: decodes in GB/s of keys and values, prompts in TFLOP/s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_timing import Budget, Stopwatch, captured
from specserve.engine.attention.backend import AttentionBackend, AttentionMetadata, LayerSpec
from specserve.engine.attention.select import load_backend

BACKENDS = ("xformers", "triton")
BATCHES, CONTEXTS = (1, 8, 32, 64, 128), (1024, 4096, 32768)
PREFILLS = (2048, 8192, 16384)
BLOCK = 64
LAYERS = 28
"""Of the 7B shape."""
CACHE_BYTES = 16 << 30


def batch_of(query_lens: Sequence[int], seq_lens: Sequence[int], device: torch.device) -> tuple[AttentionMetadata, int]:
    """Sequences with blocks in random order, and the number of blocks."""
    blocks = [-(-length // BLOCK) for length in seq_lens]
    order = torch.randperm(sum(blocks), generator=torch.Generator().manual_seed(0)).to(torch.int32)
    tables = torch.zeros(len(blocks), max(blocks), dtype=torch.int32)
    slots, first = [], 0
    for row, (count, query_len, seq_len) in enumerate(zip(blocks, query_lens, seq_lens, strict=True)):
        tables[row, :count] = order[first : first + count]
        position = torch.arange(seq_len - query_len, seq_len)
        slots.append(tables[row, position // BLOCK].long() * BLOCK + position % BLOCK)
        first += count
    decodes = len(query_lens) if all(length == 1 for length in query_lens) else 0
    step = AttentionMetadata(
        query_start=torch.tensor([0, *query_lens]).cumsum(0).to(device, torch.int32),
        seq_lens=torch.tensor(seq_lens, dtype=torch.int32, device=device),
        block_tables=tables.to(device),
        slot_mapping=torch.cat(slots).to(device),
        num_decodes=decodes,
        query_lens=list(query_lens),
        seq_lens_list=list(seq_lens),
    )
    return step, sum(blocks)


def layers_of(spec: LayerSpec, num_tokens: int) -> int:
    """Layers to attend in turn over so many tokens: as many as a model has, if their caches are not too large.

    One alone would be read from the device's cache, and the launch of its graph would count for as much as itself.
    """
    size = 2 * num_tokens * spec.num_kv_heads * spec.head_size * spec.dtype.itemsize
    return max(1, min(LAYERS, CACHE_BYTES // size))


def prepared(
    backend_class: type[AttentionBackend],
    specs: Sequence[LayerSpec],
    step: AttentionMetadata,
    num_blocks: int,
    device: torch.device,
) -> Callable[[], Tensor]:
    """Attention of the planned step in each of the layers, which are alike; gives that of the last."""
    backend = backend_class(list(specs), device, BLOCK)
    caches = backend.allocate(num_blocks)
    for cache in caches:
        cache.keys.normal_()
        cache.values.normal_()
    query = torch.randn(sum(step.query_lens), specs[0].num_heads, specs[0].head_size, device=device)
    query = query.to(specs[0].dtype)
    backend.plan(step)

    def work() -> Tensor:
        for layer, cache in enumerate(caches):
            out = backend.attend(layer, query, cache)
        return out

    return work


def attention(
    watch: Stopwatch, spec: LayerSpec, found_limits: dict[str, float], budget: Budget, names: Sequence[str] = BACKENDS
) -> dict[str, Any]:
    device = watch.device
    found: dict[str, Any] = {}
    for name in names:
        backend, reason = load_backend(name)
        refusal = reason if backend is None else backend.refuses([spec], device, BLOCK)
        if backend is None or refusal is not None:
            found[name] = {"refused": refusal}
            continue
        rows: dict[str, Any] = {}
        for batch in BATCHES:
            for context in CONTEXTS:
                key = f"decode batch {batch} context {context}"
                if not budget.allows(key, name):
                    continue
                step, num_blocks = batch_of([1] * batch, [context] * batch, device)
                layers = layers_of(spec, batch * context)
                work = prepared(backend, [spec] * layers, step, num_blocks, device)
                seconds = watch.seconds(captured(work, device)) / layers
                gb = 2 * batch * context * spec.num_kv_heads * spec.head_size * spec.dtype.itemsize / 1e9
                rate = gb / seconds
                rows[key] = {
                    "us": round(seconds * 1e6, 1),
                    "layers": layers,
                    "gb_s": round(rate, 1),
                    "share_of_copy": round(rate / found_limits["copy_gb_s"], 3),
                }
        for length in PREFILLS:
            key = f"prefill {length}"
            if not budget.allows(key, name):
                continue
            step, num_blocks = batch_of([length], [length], device)
            seconds = watch.seconds(prepared(backend, [spec], step, num_blocks, device))
            flop = 4 * spec.num_heads * spec.head_size * length * (length + 1) / 2
            rows[key] = {
                "us": round(seconds * 1e6, 1),
                "tflop_s": round(flop / 1e12 / seconds, 1),
                "share_of_gemm": round(flop / 1e12 / seconds / found_limits["gemm_tflop_s"], 3),
            }
        found[name] = rows
    return found
