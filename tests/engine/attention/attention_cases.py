"""Batches over several steps, shared by the tests of every paged backend, with and without a GPU.

All slots are NaN until a token is written, and so is everything that belongs to padding: an answer without
NaN proves that only the sequence's own tokens were read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from specserve.engine.attention.backend import AttentionBackend, AttentionMetadata, LayerSpec
from specserve.engine.attention.reference import ReferenceBackend

DEFAULT_BLOCK_SIZE = 64


@dataclass(frozen=True)
class Case:
    """`chunks[s]` is how many tokens sequence s computes in each step; missing or 0: it sits the step out.

    One layer for each entry of `windows`. `padded_rows` decodes without a slot are added to steps of decodes
    only, as a CUDA graph of a fixed batch size needs them.
    """

    name: str
    chunks: tuple[tuple[int, ...], ...]
    heads: tuple[int, int] = (4, 2)
    head_size: int = 64
    value_head_size: int | None = None
    windows: tuple[int | None, ...] = (None,)
    sinks: bool = False
    softcap: float | None = None
    block_size: int = DEFAULT_BLOCK_SIZE
    padded_rows: int = 0
    cache_dtype: torch.dtype | None = None

    def layers(self, dtype: torch.dtype) -> list[LayerSpec]:
        return [
            LayerSpec(
                num_heads=self.heads[0],
                num_kv_heads=self.heads[1],
                head_size=self.head_size,
                value_head_size=self.value_head_size or self.head_size,
                dtype=dtype,
                scale=self.head_size**-0.5,
                window=window,
                has_sinks=self.sinks,
                softcap=self.softcap,
                cache_dtype=self.cache_dtype,
            )
            for window in self.windows
        ]


MIXED = ((63, 1, 1, 1), (20, 44, 1, 1), (0, 5, 1, 30), (0, 0, 130, 1))
"""Ragged: whole prompts, chunks behind a context, decodes over a block's edge, and all in one step."""
DECODES = ((62, 1, 1, 1, 1), (5, 1, 1, 0, 1), (128, 1, 1, 1))
"""Prompts first, then decodes only: 63, 64, 65 and 66 tokens, with one sequence leaving and coming back."""

CASES = (
    Case("seven query heads to one key-value head", MIXED, heads=(14, 2)),
    Case("as many key-value heads as query heads", MIXED, heads=(4, 4)),
    Case("one key-value head", MIXED, heads=(6, 1)),
    Case("more query heads to a key-value head than a tile has rows", DECODES, heads=(20, 1)),
    Case("decodes over a block's edge", DECODES),
    Case("a first token alone", ((1, 1), (64, 1), (127, 1, 1))),
    Case("padded rows", DECODES, padded_rows=3),
    Case("window shorter than the context", MIXED, windows=(40,)),
    Case("window longer than the context", MIXED, windows=(500,)),
    Case("window of one token", MIXED, windows=(1,)),
    Case("window of one block", DECODES, windows=(64,), padded_rows=1),
    Case("layers with and without a window", MIXED, windows=(None, 70, 9)),
    Case("sinks", MIXED, heads=(8, 2), sinks=True),
    Case("sinks in a window", MIXED, heads=(8, 2), sinks=True, windows=(50,)),
    Case("sinks without head groups", DECODES, heads=(3, 3), sinks=True),
    Case("blocks of 16", MIXED, block_size=16, windows=(None, 30)),
    Case("blocks of 32", MIXED, block_size=32),
    Case("blocks of 128", MIXED, block_size=128, windows=(None, 100)),
    Case("blocks of 256", ((300, 1, 1), (255, 1, 1)), block_size=256),
    Case("a context cut into many pieces", ((2300, 1, 1),), heads=(2, 1)),
    Case("a long context in a short window", ((700, 1, 40, 1),), heads=(2, 1), windows=(600,)),
    *(Case(f"heads of {size}", ((60, 1, 7, 1), (9, 5, 1, 1)), head_size=size) for size in (16, 32, 80, 96, 128, 256)),
    Case("values smaller than keys", MIXED, head_size=96, value_head_size=64),
    Case("values larger than keys", MIXED, head_size=32, value_head_size=80, sinks=True),
    Case("a head size that is no multiple of eight", MIXED, head_size=20),
)

CAPPED_CASES = (
    Case("capped scores", MIXED, heads=(8, 2), softcap=3.0),
    Case("capped scores in a window", MIXED, heads=(4, 4), softcap=50.0, windows=(None, 40)),
    Case("capped scores with sinks", DECODES, heads=(6, 2), softcap=2.0, sinks=True),
)
"""What Gemma 2 needs, and xformers has no form for."""

FLOAT8 = torch.float8_e4m3fn
FLOAT8_CASES = (
    Case("8-bit floats", MIXED, heads=(14, 2), cache_dtype=FLOAT8),
    Case("8-bit floats in a window, with sinks", MIXED, heads=(8, 2), sinks=True, windows=(50,), cache_dtype=FLOAT8),
    Case("8-bit floats under a cap", DECODES, heads=(6, 2), softcap=2.0, padded_rows=3, cache_dtype=FLOAT8),
    Case("8-bit floats, values smaller", MIXED, head_size=96, value_head_size=64, cache_dtype=FLOAT8),
    Case("8-bit floats in many pieces", ((2300, 1, 1),), heads=(2, 1), cache_dtype=FLOAT8),
)
"""What the triton backend keeps rounded, and xformers cannot read."""

PREFILLS = ((63, 70), (20, 44, 9), (0, 5, 100))
"""No decodes: whole prompts with nothing before them, then chunks behind a context beside a new prompt."""

PREFILL_CASES = (
    Case("head groups", PREFILLS, heads=(14, 2)),
    Case("no head groups", PREFILLS, heads=(3, 3)),
    Case("windows", PREFILLS, windows=(None, 1, 40, 500)),
    Case("sinks in a window", PREFILLS, sinks=True, windows=(50,)),
    Case("heads of 80", PREFILLS, head_size=80),
    Case("values smaller than keys", PREFILLS, head_size=96, value_head_size=64),
    Case("a head size that is no multiple of eight", PREFILLS, head_size=20, sinks=True),
)


@dataclass
class Batch:
    """One step: which sequence each row is, its tokens' positions, and the metadata that says so."""

    rows: list[int]
    spans: list[tuple[int, int]]
    metadata: AttentionMetadata


def steps_of(case: Case, device: torch.device) -> tuple[list[Batch], int]:
    """All steps of a case and the number of blocks they need; blocks are handed out in random order."""
    size = case.block_size
    totals = [sum(chunks) for chunks in case.chunks]
    blocks = [-(-total // size) for total in totals]
    num_blocks = sum(blocks) + 2
    order = torch.randperm(num_blocks, generator=torch.Generator().manual_seed(1)).tolist()
    tables = torch.zeros(len(totals), max(blocks) + 1, dtype=torch.int32)
    for row, count in enumerate(blocks):
        tables[row, :count] = torch.tensor([order.pop() for _ in range(count)], dtype=torch.int32)
    done = [0] * len(totals)
    batches = []
    for step in range(max(map(len, case.chunks))):
        new = [chunks[step] if step < len(chunks) else 0 for chunks in case.chunks]
        rows = sorted((row for row, count in enumerate(new) if count), key=lambda row: new[row] != 1)
        spans = [(done[row], done[row] + new[row]) for row in rows]
        padding = case.padded_rows if all(new[row] == 1 for row in rows) else 0
        batches.append(Batch(rows, spans, _metadata(tables[rows], spans, size, padding, device)))
        done = [before + count for before, count in zip(done, new, strict=True)]
    return batches, num_blocks


def _metadata(
    tables: Tensor, spans: list[tuple[int, int]], block_size: int, padding: int, device: torch.device
) -> AttentionMetadata:
    query_lens = [last - first for first, last in spans] + [1] * padding
    seq_lens = [last for _, last in spans] + [1] * padding
    positions = [torch.arange(first, last) for first, last in spans]
    slots = [
        table[position // block_size] * block_size + position % block_size
        for table, position in zip(tables.long(), positions, strict=True)
    ]
    slots.append(torch.full((padding,), -1, dtype=torch.int64))
    return AttentionMetadata(
        query_start=torch.tensor([0, *query_lens]).cumsum(0).to(device, torch.int32),
        seq_lens=torch.tensor(seq_lens, dtype=torch.int32, device=device),
        block_tables=torch.cat([tables, tables.new_zeros(padding, tables.shape[1])]).to(device),
        slot_mapping=torch.cat(slots).to(device),
        num_decodes=sum(1 for length in query_lens if length == 1),
        query_lens=query_lens,
        seq_lens_list=seq_lens,
    )


def largest_error(backend_class: type[AttentionBackend], case: Case, dtype: torch.dtype, device: torch.device) -> float:
    """Largest difference over all steps and layers from the reference in float32 on the same numbers.

    NaN when anything was read that does not belong to a sequence.
    """
    layers = case.layers(dtype)
    tested = backend_class(layers, device, case.block_size)
    exact_layers = [replace(spec, dtype=torch.float32) for spec in layers]
    reference = ReferenceBackend(exact_layers, device, case.block_size)
    batches, num_blocks = steps_of(case, device)
    caches, truth = tested.allocate(num_blocks), reference.allocate(num_blocks)
    for spec, cache, exact in zip(layers, caches, truth, strict=True):
        for each in (cache, exact):
            each.keys[..., : spec.head_size] = float("nan")
            each.values[..., : spec.value_head_size] = float("nan")
    generator = torch.Generator().manual_seed(0)
    errors = []
    for batch in batches:
        tested.plan(batch.metadata)
        reference.plan(batch.metadata)
        num_tokens = sum(last - first for first, last in batch.spans)
        for layer, spec in enumerate(layers):
            query, key, value = (
                _tokens(num_tokens, sum(batch.metadata.query_lens), heads, size, generator).to(device, dtype)
                for heads, size in (
                    (spec.num_heads, spec.head_size),
                    (spec.num_kv_heads, spec.head_size),
                    (spec.num_kv_heads, spec.value_head_size),
                )
            )
            sinks = torch.randn(spec.num_heads, generator=generator).to(device) if spec.has_sinks else None
            tested.write_kv(layer, strided(key), strided(value), caches[layer])
            reference.write_kv(layer, key.float(), value.float(), truth[layer])
            out = tested.attend(layer, strided(query), caches[layer], sinks)
            wanted = reference.attend(layer, query.float(), truth[layer], sinks)
            errors.append((out[:num_tokens].float() - wanted[:num_tokens]).abs().max())
    return float(torch.stack(errors).max())


def _tokens(real: int, total: int, heads: int, size: int, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(real, heads, size, generator=generator)
    return torch.cat([drawn, torch.full((total - real, heads, size), float("nan"))])


def strided(x: Tensor) -> Tensor:
    """The same numbers as transformers hands them over: heads outermost in memory."""
    return x.transpose(0, 1).contiguous().transpose(0, 1)
