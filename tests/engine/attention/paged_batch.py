"""A step's batch over a poisoned cache: what the attention tests feed to every backend.

All slots are NaN before the context is written, so an answer without NaN proves that nothing else was read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from specserve.engine.attention.backend import AttentionBackend, AttentionMetadata, LayerCache, LayerSpec
from specserve.engine.attention.cpu import CpuBackend
from specserve.engine.attention.reference import ReferenceBackend
from specserve.engine.native.build import ISA_FLAGS

CPU = torch.device("cpu")
Make = Callable[[list[LayerSpec], int], AttentionBackend]


def _forced(isa: str) -> Make:
    def make(layers: list[LayerSpec], block_size: int) -> CpuBackend:
        backend = CpuBackend(layers, CPU, block_size, isa=isa)
        if isa != "torch" and backend.kernel is None:
            pytest.skip("; ".join(backend.describe()))
        return backend

    return make


PATHS: dict[str, Make] = {f"cpu-{isa}": _forced(isa) for isa in (*ISA_FLAGS, "torch")}
"""The CPU's backend once per instruction set and once in pure torch; xformers has tests of its own."""


def spec_of(
    heads: tuple[int, int] = (4, 2),
    size: int = 64,
    *,
    value_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    window: int | None = None,
    softcap: float | None = None,
    sinks: bool = False,
    cache_dtype: torch.dtype | None = None,
) -> LayerSpec:
    values = size if value_size is None else value_size
    return LayerSpec(
        *heads,
        size,
        values,
        dtype,
        size**-0.5,
        window=window,
        softcap=softcap,
        has_sinks=sinks,
        cache_dtype=cache_dtype,
    )


@dataclass
class Sequences:
    """Random sequences: queries, keys and values of all positions, [length, heads, size] each, and sinks."""

    queries: list[Tensor]
    keys: list[Tensor]
    values: list[Tensor]
    sinks: Tensor | None

    @classmethod
    def draw(cls, spec: LayerSpec, lengths: Sequence[int], seed: int = 0) -> Sequences:
        generator = torch.Generator().manual_seed(seed)

        def draw(length: int, heads: int, size: int) -> Tensor:
            return torch.randn(length, heads, size, generator=generator).to(spec.dtype)

        return cls(
            queries=[draw(length, spec.num_heads, spec.head_size) for length in lengths],
            keys=[draw(length, spec.num_kv_heads, spec.head_size) for length in lengths],
            values=[draw(length, spec.num_kv_heads, spec.value_head_size) for length in lengths],
            sinks=torch.randn(spec.num_heads, generator=generator) if spec.has_sinks else None,
        )


class PagedSequences:
    """Sequences with blocks scattered over the poisoned cache of one backend's layer `layer`."""

    def __init__(
        self,
        backend: AttentionBackend,
        spec: LayerSpec,
        sequences: Sequences,
        caches: list[LayerCache],
        layer: int = 0,
    ) -> None:
        self.backend, self.spec, self.sequences, self.layer = backend, spec, sequences, layer
        self.cache = caches[layer]
        size = backend.block_size
        blocks = [-(-keys.shape[0] // size) for keys in sequences.keys]
        self.num_blocks = num_blocks_for(sequences, size)
        scattered = torch.randperm(self.num_blocks, generator=torch.Generator().manual_seed(1)).tolist()
        self.tables = torch.zeros(len(blocks), max(blocks) + 1, dtype=torch.int32)
        for row, count in enumerate(blocks):
            self.tables[row, :count] = torch.tensor([scattered.pop() for _ in range(count)], dtype=torch.int32)
        self._poison()

    def _poison(self) -> None:
        slots = torch.arange(self.num_blocks * self.backend.block_size)
        table = torch.arange(self.num_blocks, dtype=torch.int32)[None]
        self.backend.plan(metadata([len(slots)], [len(slots)], table, slots))
        nan = torch.full((len(slots), self.spec.num_kv_heads, 1), float("nan"), dtype=self.spec.dtype)
        key, value = nan.expand(-1, -1, self.spec.head_size), nan.expand(-1, -1, self.spec.value_head_size)
        self.backend.write_kv(self.layer, key.contiguous(), value.contiguous(), self.cache)

    def slots(self, row: int, first: int, last: int) -> Tensor:
        position, size = torch.arange(first, last), self.backend.block_size
        return self.tables[row].long()[position // size] * size + position % size

    def write(self, spans: Sequence[tuple[int, int]]) -> None:
        """Write positions [first, last) of each sequence, in a step of its own."""
        rows = [row for row, (first, last) in enumerate(spans) if last > first]
        lengths = [spans[row][1] - spans[row][0] for row in rows]
        ends = [spans[row][1] for row in rows]
        if not rows:
            return
        slots = torch.cat([self.slots(row, *spans[row]) for row in rows])
        self.backend.plan(metadata(lengths, ends, self.tables[rows], slots))
        self._write_planned(rows, spans)

    def step(self, spans: Sequence[tuple[int, int]], padding: int = 0) -> list[Tensor]:
        """Write and attend positions [first, last) of each sequence; padding tokens have no slot."""
        rows = [row for row, (first, last) in enumerate(spans) if last > first]
        lengths = [spans[row][1] - spans[row][0] for row in rows]
        slots = [self.slots(row, *spans[row]) for row in rows]
        slots.append(torch.full((padding,), -1, dtype=torch.int64))
        ends = [spans[row][1] for row in rows]
        self.backend.plan(metadata(lengths, ends, self.tables[rows], torch.cat(slots)))
        self._write_planned(rows, spans, padding)
        query = torch.cat([self.sequences.queries[row][slice(*spans[row])] for row in rows])
        query = torch.cat([query, query.new_full((padding, *query.shape[1:]), float("nan"))])
        out = self.backend.attend(self.layer, strided(query), self.cache, self.sequences.sinks)
        return list(out[: sum(lengths)].split(lengths))

    def _write_planned(self, rows: list[int], spans: Sequence[tuple[int, int]], padding: int = 0) -> None:
        key = torch.cat([self.sequences.keys[row][slice(*spans[row])] for row in rows])
        value = torch.cat([self.sequences.values[row][slice(*spans[row])] for row in rows])
        key, value = (torch.cat([x, x.new_full((padding, *x.shape[1:]), float("nan"))]) for x in (key, value))
        self.backend.write_kv(self.layer, strided(key), strided(value), self.cache)


def strided(x: Tensor) -> Tensor:
    """The same numbers as transformers hands them over: heads outermost in memory."""
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def num_blocks_for(sequences: Sequences, block_size: int) -> int:
    return sum(-(-keys.shape[0] // block_size) for keys in sequences.keys) + 3


def metadata(query_lens: list[int], seq_lens: list[int], tables: Tensor, slots: Tensor) -> AttentionMetadata:
    num_decodes = next((at for at, length in enumerate(query_lens) if length != 1), len(query_lens))
    return AttentionMetadata(
        query_start=torch.tensor([0, *query_lens]).cumsum(0).to(torch.int32),
        seq_lens=torch.tensor(seq_lens, dtype=torch.int32),
        block_tables=tables,
        slot_mapping=slots,
        num_decodes=num_decodes,
        query_lens=query_lens,
        seq_lens_list=seq_lens,
    )


def attend(
    make: Make, spec: LayerSpec, lengths: Sequence[tuple[int, int]], block_size: int = 16, padding: int = 0
) -> Tensor:
    """One step over sequences of (query length, length), their context written before; rows concatenated."""
    sequences = Sequences.draw(spec, [length for _, length in lengths])
    backend = make([spec], block_size)
    paged = PagedSequences(backend, spec, sequences, backend.allocate(num_blocks_for(sequences, block_size)))
    spans = [(length - query, length) for query, length in lengths]
    # Pages that no query can see any more may have been given away: they stay poisoned.
    oldest = [max(0, first + 1 - (spec.window or first + 1)) // 16 * 16 for first, _ in spans]
    paged.write([(old, first) for old, (first, _) in zip(oldest, spans, strict=True)])
    return torch.cat(paged.step(spans, padding))


def reference(layers: list[LayerSpec], block_size: int) -> ReferenceBackend:
    return ReferenceBackend(layers, CPU, block_size)


def assert_close(found: Tensor, wanted: Tensor) -> None:
    """float32: rounding of long sums and of the kernel's exp; bfloat16: two roundings to 8 bits, of
    probabilities and of results."""
    tolerance = 2e-5 if wanted.dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)
