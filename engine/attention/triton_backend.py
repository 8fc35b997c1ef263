"""Paged attention on NVIDIA GPUs by a kernel of our own: for what xformers has no form, and Tritons it cannot use.

Runs on CPUs too, slowly, when TRITON_INTERPRET=1 was set before Triton was first imported: for tests only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from specserve.engine.attention.backend import AttentionMetadata, LayerCache, LayerSpec
from specserve.engine.attention.rounded_rows import stored_dtype, to_float8
from specserve.engine.attention.xformers_backend import device_misfit
from specserve.engine.attention.xformers_check import self_test
from specserve.engine.kernels.paged_attention import paged_attention, rows_of_tile

DEFAULT_BLOCK_SIZE = 64
MAX_HEAD_SIZE = 512
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
CACHE_DTYPES = (None, torch.float8_e4m3fn)
INTERPRETED_MULTIPROCESSORS = 2
"""Stands for the GPU's number in the interpreter: few programs run, but more than one split."""
RESIDENT_PROGRAMS = 4
"""A multiprocessor holds so many at once of 128-wide heads in bfloat16: 119 registers for each of 128 threads."""
MIN_SPLIT_TOKENS = 256
"""A split of fewer tokens costs more in merging than it gains."""


class Tiles:
    """Tiles of a step's chunks for one number of tokens a tile: [N] int32 each, as the kernel takes them."""

    def __init__(self, query_lens: list[int], first_row: int, tokens: int, device: torch.device) -> None:
        """Of the sequences from `first_row` on."""
        sequences: list[int] = []
        firsts: list[int] = []
        for row in range(first_row, len(query_lens)):
            starts = range(0, query_lens[row], tokens)
            sequences += [row] * len(starts)
            firsts += starts
        both = torch.tensor([sequences, firsts], dtype=torch.int32).to(device, non_blocking=True)
        self.sequence, self.first = both[0], both[1]


class TritonBackend:
    """Caches are [slots, K, D]: whole blocks, and one block more that takes what is to be skipped.

    A decode step that was captured in a CUDA graph is replayed by writing another batch into the tensors of the
    metadata it was captured with, and planning it.
    """

    name = "triton"

    @classmethod
    def default_block_size(cls) -> int:
        return DEFAULT_BLOCK_SIZE

    @classmethod
    def refuses(cls, layers: list[LayerSpec], device: torch.device, block_size: int) -> str | None:
        return device_misfit(device) or _layers_misfit(layers, device) or self_test(cls, layers, device, block_size)

    def __init__(self, layers: list[LayerSpec], device: torch.device, block_size: int) -> None:
        self.block_size = block_size
        self._layers = layers
        self._device = device
        self._multiprocessors = (
            torch.cuda.get_device_properties(device).multi_processor_count
            if device.type == "cuda"
            else INTERPRETED_MULTIPROCESSORS
        )
        self._skipped_slot = 0
        self._step: AttentionMetadata | None = None
        self.slots = torch.empty(0, dtype=torch.int64, device=device)
        self._slot_buffers: dict[int, Tensor] = {}
        self._decode_tiles: dict[int, Tensor] = {}
        self._tiles: dict[int, Tiles] = {}

    def describe(self) -> list[str]:
        notes = [f"triton attention: one paged kernel, blocks of {self.block_size}"]
        if self._device.type == "cuda" and any(spec.dtype == torch.float32 for spec in self._layers):
            notes.append("triton attention: float32 layers multiply without tensor cores")
        if any(spec.cache_dtype is torch.float8_e4m3fn for spec in self._layers):
            notes.append("triton attention: keys and values are kept as float8_e4m3fn, without a scale")
        return notes

    def bytes_per_block(self) -> int:
        """The one extra block of `allocate` does not count."""
        return self.block_size * sum(
            spec.num_kv_heads
            * (spec.head_size + spec.value_head_size)
            * stored_dtype(spec.dtype, spec.cache_dtype).itemsize
            for spec in self._layers
        )

    def allocate(self, num_blocks: int) -> list[LayerCache]:
        self._skipped_slot = num_blocks * self.block_size
        num_slots = (num_blocks + 1) * self.block_size
        caches = []
        for spec in self._layers:
            stored = stored_dtype(spec.dtype, spec.cache_dtype)
            keys, values = (
                torch.zeros(num_slots, spec.num_kv_heads, size, dtype=stored, device=self._device)
                for size in (spec.head_size, spec.value_head_size)
            )
            caches.append(LayerCache(keys=keys, values=values))
        return caches

    def plan(self, metadata: AttentionMetadata) -> None:
        metadata.check(self.block_size)
        self._step = metadata
        mapping = metadata.slot_mapping
        self.slots = self._slot_buffer(mapping.shape[0])
        self.slots.copy_(torch.where(mapping < 0, self._skipped_slot, mapping))
        self._tiles.clear()

    def _slot_buffer(self, num_tokens: int) -> Tensor:
        """The same memory for the same number of tokens, step after step: a captured graph reads it."""
        size = 1 << max(0, num_tokens - 1).bit_length()
        if size not in self._slot_buffers:
            self._slot_buffers[size] = torch.empty(size, dtype=torch.int64, device=self._device)
        return self._slot_buffers[size][:num_tokens]

    def write_kv(self, layer: int, key: Tensor, value: Tensor, cache: LayerCache) -> None:
        if self._layers[layer].cache_dtype is None:
            cache.keys.index_copy_(0, self.slots, key)
            cache.values.index_copy_(0, self.slots, value)
        else:  # torch copies bytes by index, but no 8-bit floats
            cache.keys.view(torch.uint8).index_copy_(0, self.slots, to_float8(key).view(torch.uint8))
            cache.values.view(torch.uint8).index_copy_(0, self.slots, to_float8(value).view(torch.uint8))

    def note_written(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Nothing follows: everything is read from the cache."""

    def attend(self, layer: int, query: Tensor, cache: LayerCache, sinks: Tensor | None = None) -> Tensor:
        assert self._step is not None, "plan was not called"
        step, query = self._step, query.contiguous()
        num_decodes = step.num_decodes
        if num_decodes == query.shape[0]:
            return self._decode(layer, query, cache, sinks)
        num_tokens = sum(step.query_lens)
        spec = self._layers[layer]
        out = query.new_zeros(query.shape[0], spec.num_heads, spec.value_head_size)
        if num_decodes:
            out[:num_decodes] = self._decode(layer, query[:num_decodes], cache, sinks)
        if num_tokens > num_decodes:
            rows = _rows(spec, decodes=False)
            tiles = self._tiles_of(rows * spec.num_kv_heads // spec.num_heads)
            attended = self._run(layer, query, cache, sinks, tiles.sequence, tiles.first, rows, 1)
            out[num_decodes:num_tokens] = attended[num_decodes:num_tokens]
        return out

    def _tiles_of(self, tokens: int) -> Tiles:
        assert self._step is not None
        if tokens not in self._tiles:
            self._tiles[tokens] = Tiles(self._step.query_lens, self._step.num_decodes, tokens, self._device)
        return self._tiles[tokens]

    def _decode(self, layer: int, query: Tensor, cache: LayerCache, sinks: Tensor | None) -> Tensor:
        assert self._step is not None
        spec = self._layers[layer]
        rows = _rows(spec, decodes=True)
        sequence, first = self._tiles_of_decodes(query.shape[0])
        # By the table's width, not by the lengths: a captured graph keeps the number.
        splits = self.num_splits(query.shape[0], spec, self._step.block_tables.shape[1] * self.block_size)
        return self._run(layer, query, cache, sinks, sequence, first, rows, splits)

    def _tiles_of_decodes(self, num_decodes: int) -> Tensor:
        """[2, n] int32, kept for good: one tile for each sequence."""
        size = 1 << max(0, num_decodes - 1).bit_length()
        if size not in self._decode_tiles:
            rows = torch.arange(size, dtype=torch.int32, device=self._device)
            self._decode_tiles[size] = torch.stack([rows, torch.zeros_like(rows)])
        return self._decode_tiles[size][:, :num_decodes]

    def num_splits(self, batch: int, spec: LayerSpec, capacity: int) -> int:
        """Parts a context is cut into: enough programs to fill the GPU, none of them tiny; a power of two, because
        each number is a kernel of its own."""
        seen = capacity if spec.window is None else min(capacity, spec.window)
        wanted = RESIDENT_PROGRAMS * self._multiprocessors // (batch * spec.num_kv_heads)
        most = min(wanted, seen // MIN_SPLIT_TOKENS)
        return 1 << max(0, most.bit_length() - 1)

    def _run(
        self,
        layer: int,
        query: Tensor,
        cache: LayerCache,
        sinks: Tensor | None,
        sequence: Tensor,
        first: Tensor,
        rows: int,
        splits: int,
    ) -> Tensor:
        assert self._step is not None
        spec = self._layers[layer]
        return paged_attention(
            query,
            cache.keys,
            cache.values,
            sequence,
            first,
            self._step.query_start,
            self._step.seq_lens,
            self._step.block_tables,
            page=self.block_size,
            rows=rows,
            scale=spec.scale,
            splits=splits,
            window=spec.window,
            softcap=spec.softcap,
            sinks=sinks,
        )


def _rows(spec: LayerSpec, *, decodes: bool) -> int:
    widest = max(spec.head_size, spec.value_head_size)
    return rows_of_tile(spec.num_heads // spec.num_kv_heads, widest, spec.dtype.itemsize, decodes=decodes)


def _layers_misfit(layers: list[LayerSpec], device: torch.device) -> str | None:
    for index, spec in enumerate(layers):
        if spec.cache_dtype not in CACHE_DTYPES:
            return f"it rounds keys and values to float8_e4m3fn, not to {spec.cache_dtype}"
        if spec.dtype not in DTYPES:
            return f"layer {index} computes in {spec.dtype}; it takes float16, bfloat16 and float32"
        if spec.dtype == torch.bfloat16 and device.type == "cpu":
            return "Triton's interpreter multiplies bfloat16 wrongly; use float16 or float32 there"
        if spec.num_heads % spec.num_kv_heads:
            return f"layer {index} has {spec.num_heads} heads for {spec.num_kv_heads} key-value heads"
        if max(spec.head_size, spec.value_head_size) > MAX_HEAD_SIZE:
            return (
                f"layer {index} has heads of {max(spec.head_size, spec.value_head_size)}, wider than {MAX_HEAD_SIZE}, "
                "the widest the kernel takes"
            )
        try:
            _rows(spec, decodes=True)
        except ValueError as error:
            return f"layer {index}: {error}"
    return None
