"""Calls native/attention.cpp: picks the instruction set, checks its numbers before anybody relies on them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from specserve.engine.attention.backend import AttentionMetadata, LayerCache, LayerSpec
from specserve.engine.attention.cache_memory import lazy_zeros
from specserve.engine.attention.reference import attend_one_sequence
from specserve.engine.attention.rounded_rows import SCALE_BYTES, restore, store
from specserve.engine.native.library import KernelUnavailableError, Library, load_library

PAGE = 16
"""Tokens per page of the kernel; a block is one or more pages."""
DTYPES = (torch.bfloat16, torch.float32)
MAX_INT8_HEAD_SIZE = 1024
"""What native/hadamard.h has room for."""
_POINTER, _INT64, _INT32, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_float


class AttendArgs(ctypes.Structure):
    """Mirrors the struct of the same name in native/attention.h."""

    _fields_ = (
        *((name, _POINTER) for name in ("query", "keys", "values", "out", "sinks")),
        *((name, _POINTER) for name in ("block_tables", "seq_lens", "query_start")),
        *((name, _INT64) for name in ("query_token_stride", "query_head_stride")),
        *((name, _INT32) for name in ("num_seqs", "num_heads", "num_kv_heads", "head_size", "value_head_size")),
        *((name, _INT32) for name in ("block_size", "table_stride", "window", "looks_ahead")),
        *((name, _INT32) for name in ("is_bf16", "is_int8", "num_threads")),
        *((name, _FLOAT) for name in ("scale", "softcap")),
    )


class WriteArgs(ctypes.Structure):
    """Mirrors the struct of the same name in native/attention.h."""

    _fields_ = (
        *((name, _POINTER) for name in ("key", "value", "keys", "values", "slots")),
        *((name, _INT64) for name in ("key_token_stride", "key_head_stride")),
        *((name, _INT64) for name in ("value_token_stride", "value_head_stride")),
        *((name, _INT32) for name in ("num_tokens", "num_kv_heads", "head_size", "value_head_size")),
        *((name, _INT32) for name in ("is_bf16", "is_int8", "num_threads")),
    )


class Kernel:
    """Attention bound to one instruction set of this processor."""

    def __init__(self, isa: str | None = None) -> None:
        """`isa` None takes the best this processor has. Raises KernelUnavailableError."""
        self.library = load_library()
        self.isa = choose_isa(self.library, isa)
        self._attend = self.library.function(f"specserve_attend_{self.isa}")
        has_avx512 = self.isa != "avx2"
        self._write = self.library.function("specserve_write_pages" if has_avx512 else "specserve_write_kv")
        for dtype in DTYPES:
            self._test(dtype)

    def attend(self, args: AttendArgs) -> None:
        if self._attend(ctypes.byref(args)):
            raise MemoryError("no memory for the attention kernel's scratch space")

    def write_kv(self, args: WriteArgs) -> None:
        self._write(ctypes.byref(args))

    def _test(self, dtype: torch.dtype) -> None:
        """Compare tiny mixed batches with the reference; a miscompiled kernel must not answer users."""
        spec = LayerSpec(4, 2, 24, 24, dtype, 0.2, window=17, softcap=5.0, has_sinks=True)
        self._compare(spec)
        self._compare(replace(spec, is_causal=False, head_size=32, value_head_size=32))
        self._compare(replace(spec, cache_dtype=torch.int8))

    def _compare(self, spec: LayerSpec) -> None:
        dtype, size = spec.dtype, spec.head_size
        layer, generator = KernelLayer(self, spec, PAGE), torch.Generator().manual_seed(0)
        query_lens, seq_lens = [1, 3], [35, 20]

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(dtype)

        keys, values, query, sinks = draw(55, 2, size), draw(55, 2, size), draw(4, 4, size), draw(4).float()
        cache = layer.allocate(5)
        tables = torch.tensor([[4, 0, 2], [1, 3, 0]], dtype=torch.int32)
        slots = torch.cat([_slots(tables[row], length) for row, length in enumerate(seq_lens)])
        whole = _metadata(seq_lens, seq_lens, tables, slots)
        layer.write_kv(KernelStep(whole), keys, values, cache)
        step = KernelStep(_metadata(query_lens, seq_lens, tables, slots.new_full((4,), -1)))
        found = layer.attend(step, query, cache, sinks)
        if spec.cache_dtype is torch.int8:
            keys = restore(store(keys, torch.int8, are_keys=True), size, torch.int8, torch.float32, are_keys=True)
            values = restore(store(values, torch.int8, are_keys=False), size, torch.int8, torch.float32, are_keys=False)
        wanted = torch.cat(
            [
                attend_one_sequence(query[:1], keys[:35], values[:35], spec, sinks),
                attend_one_sequence(query[1:], keys[35:], values[35:], spec, sinks),
            ]
        )
        error = (found.float() - wanted.float()).abs().max().item()
        limit = 1e-4 if dtype == torch.float32 else 3e-2
        if not error <= limit:
            where = f"{self.isa}, {dtype}, limit {limit:.0e}"
            raise KernelUnavailableError(f"the kernel's self-test is off by {error:.1e} ({where})")


def choose_isa(library: Library, isa: str | None) -> str:
    if isa is not None and isa not in library.isas:
        raise KernelUnavailableError(f"{isa!r} was asked for; this processor has {', '.join(library.isas)}")
    return isa or library.isas[0]


def _slots(table: Tensor, length: int) -> Tensor:
    position = torch.arange(length)
    return table.long()[position // PAGE] * PAGE + position % PAGE


def _metadata(query_lens: list[int], seq_lens: list[int], tables: Tensor, slots: Tensor) -> AttentionMetadata:
    return AttentionMetadata(
        query_start=torch.tensor([0, *query_lens], dtype=torch.int32).cumsum(0, dtype=torch.int32),
        seq_lens=torch.tensor(seq_lens, dtype=torch.int32),
        block_tables=tables,
        slot_mapping=slots,
        num_decodes=0,
        query_lens=query_lens,
        seq_lens_list=seq_lens,
    )


@dataclass(slots=True, init=False)
class KernelStep:
    """One step's tensors as the kernel reads them; holding them keeps their addresses valid."""

    query_start: Tensor
    seq_lens: Tensor
    block_tables: Tensor
    slots: Tensor
    num_tokens: int
    num_threads: int

    def __init__(self, metadata: AttentionMetadata) -> None:
        self.query_start = metadata.query_start.to(torch.int32).contiguous()
        self.seq_lens = metadata.seq_lens.to(torch.int32).contiguous()
        self.block_tables = metadata.block_tables.to(torch.int32).contiguous()
        self.slots = metadata.slot_mapping.to(torch.int64).contiguous()
        self.num_tokens = sum(metadata.query_lens)
        self.num_threads = torch.get_num_threads()


class KernelLayer:
    """One layer in the kernel's packed pages; native/attention.h draws their layout."""

    def __init__(self, kernel: Kernel, spec: LayerSpec, block_size: int) -> None:
        self.spec = spec
        self._kernel = kernel
        self._is_int8 = spec.cache_dtype is torch.int8
        pair = 2 if self._is_int8 or spec.dtype == torch.bfloat16 else 1
        width = -(-spec.value_head_size // 16) * 16
        key_rows = -(-spec.head_size // pair)
        if self._is_int8:  # bytes, and the tokens' scales behind them
            self._key_page: tuple[int, ...] = (spec.num_kv_heads, PAGE * (key_rows * pair + SCALE_BYTES))
            self._value_page: tuple[int, ...] = (spec.num_kv_heads, PAGE * (width + SCALE_BYTES))
        else:
            self._key_page = (spec.num_kv_heads, key_rows, PAGE, pair)
            self._value_page = (spec.num_kv_heads, PAGE // pair, width, pair)
        self._stored = torch.int8 if self._is_int8 else spec.dtype
        self._pages_per_block = block_size // PAGE
        sizes = {
            "num_kv_heads": spec.num_kv_heads,
            "head_size": spec.head_size,
            "value_head_size": spec.value_head_size,
            "is_bf16": int(spec.dtype == torch.bfloat16),
            "is_int8": int(self._is_int8),
        }
        self._write = WriteArgs(**sizes)
        self._attend = AttendArgs(
            **sizes,
            num_heads=spec.num_heads,
            block_size=block_size,
            window=spec.window or 0,
            looks_ahead=int(not spec.is_causal),
            scale=spec.scale,
            softcap=spec.softcap or 0.0,
        )

    @staticmethod
    def misfit(spec: LayerSpec, block_size: int) -> str | None:
        """Why the kernel cannot serve this layer, or None."""
        if spec.dtype not in DTYPES:
            return f"{str(spec.dtype).removeprefix('torch.')} (the kernel takes bfloat16 and float32)"
        if spec.cache_dtype is torch.int8 and max(spec.head_size, spec.value_head_size) > MAX_INT8_HEAD_SIZE:
            return f"heads of more than {MAX_INT8_HEAD_SIZE} in int8"
        if block_size % PAGE:
            return f"block size {block_size} (the kernel takes multiples of {PAGE})"
        return None

    def bytes_per_block(self) -> int:
        page = torch.Size(self._key_page).numel() + torch.Size(self._value_page).numel()
        return self._pages_per_block * page * self._stored.itemsize

    def allocate(self, num_blocks: int) -> LayerCache:
        return LayerCache(
            keys=lazy_zeros((num_blocks, self._pages_per_block, *self._key_page), self._stored),
            values=lazy_zeros((num_blocks, self._pages_per_block, *self._value_page), self._stored),
        )

    def write_kv(self, step: KernelStep, key: Tensor, value: Tensor, cache: LayerCache) -> None:
        key, value, args = self._readable(key), self._readable(value), self._write
        args.key, args.key_token_stride, args.key_head_stride = key.data_ptr(), key.stride(0), key.stride(1)
        args.value, args.value_token_stride = value.data_ptr(), value.stride(0)
        args.value_head_stride = value.stride(1)
        args.keys, args.values = cache.keys.data_ptr(), cache.values.data_ptr()
        args.slots, args.num_tokens = step.slots.data_ptr(), step.slots.shape[0]
        args.num_threads = step.num_threads
        self._kernel.write_kv(args)

    def attend(self, step: KernelStep, query: Tensor, cache: LayerCache, sinks: Tensor | None) -> Tensor:
        query, args = self._readable(query), self._attend
        shape = (query.shape[0], self.spec.num_heads, self.spec.value_head_size)
        out = query.new_empty(shape) if shape[0] == step.num_tokens else query.new_zeros(shape)
        if sinks is not None:
            sinks = sinks.to(torch.float32).contiguous()
        args.query, args.query_token_stride = query.data_ptr(), query.stride(0)
        args.query_head_stride, args.out = query.stride(1), out.data_ptr()
        args.keys, args.values = cache.keys.data_ptr(), cache.values.data_ptr()
        args.sinks = sinks.data_ptr() if sinks is not None else None
        args.block_tables, args.table_stride = step.block_tables.data_ptr(), step.block_tables.shape[1]
        args.seq_lens, args.query_start = step.seq_lens.data_ptr(), step.query_start.data_ptr()
        args.num_seqs, args.num_threads = step.seq_lens.shape[0], step.num_threads
        self._kernel.attend(args)
        return out

    def _readable(self, x: Tensor) -> Tensor:
        """In the layer's data type, with neighbouring elements of a head side by side."""
        if x.dtype != self.spec.dtype:
            x = x.to(self.spec.dtype)
        return x if x.stride(2) == 1 else x.contiguous()
