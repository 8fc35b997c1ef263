"""Paged attention on NVIDIA GPUs: xformers' split-K kernel for decodes, FlashAttention 2 for prefill chunks.

Runs on CPUs too, slowly, when TRITON_INTERPRET=1 was set before Triton was first imported: for tests only.
Knows nothing of xformers' classes; those are in `xformers`.
"""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor

from specserve.engine.attention.backend import AttentionMetadata, LayerCache, LayerSpec
from specserve.engine.attention.prefill_torch import torch_prefill
from specserve.engine.attention.xformers_check import (
    XFormersMisfitError,
    load_operators,
    self_test,
    version_misfit,
)
from specserve.engine.attention.xformers_plan import DecodeBatch, PrefillBatch, batch_bucket, width_bucket

DEFAULT_BLOCK_SIZE = 64
BLOCK_SIZES = (16, 32, 64, 128, 256)
HEAD_SIZES = (16, 32, 64, 128, 256, 512)
"""What the paged kernel is written for; anything between is padded with zeros to the next one."""
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
INTERPRETED_MULTIPROCESSORS = 2
"""Stands for the GPU's number in the interpreter: few programs run, but more than one split."""
RESIDENT_PROGRAMS = 5
"""A multiprocessor holds so many at once of 128-wide heads in bfloat16: 96 registers for each of 128 threads, 39 KB."""
LEAST_FILLED = 2
"""Splits divide the table's width, not the context: in one that fills half of its bucket every second has nothing to
do, and ends at once."""
MIN_SPLIT_TOKENS = 256
"""A split of fewer tokens costs more in merging than it gains."""
MAX_SPLITS = 64
"""The kernel that merges holds all parts of a head in registers, and spills beyond."""


class XFormersBackend:
    """Caches are [slots, K, D]: whole blocks, and one block more that takes what is to be skipped.

    `plan` writes into tensors kept for each (batch bucket, table width bucket), so a decode step that was
    captured in a CUDA graph is replayed by planning a batch of the same two buckets. The width is that of the
    block table handed in, not of the longest sequence. Nothing in `write_kv` or a decode's `attend` waits for
    the device.
    """

    name = "xformers"

    @classmethod
    def default_block_size(cls) -> int:
        return DEFAULT_BLOCK_SIZE

    @classmethod
    def refuses(cls, layers: list[LayerSpec], device: torch.device, block_size: int) -> str | None:
        """Cheap reasons first; the last one is a run of a few tokens, which compiles the first kernels."""
        reason = device_misfit(device) or _layers_misfit(layers, device, block_size) or version_misfit()
        if reason is not None:
            return reason
        try:
            load_operators()
        except XFormersMisfitError as error:
            return str(error)
        return self_test(cls, layers, device, block_size)

    def __init__(self, layers: list[LayerSpec], device: torch.device, block_size: int) -> None:
        self.block_size = block_size
        self._device = device
        self._operators = load_operators()
        self._multiprocessors = (
            torch.cuda.get_device_properties(device).multi_processor_count
            if device.type == "cuda"
            else INTERPRETED_MULTIPROCESSORS
        )
        self._layers = layers
        self._windows = list(dict.fromkeys(spec.window for spec in layers))
        self._padded = [padded_head_size(spec) for spec in layers]
        self._no_flash = [self._operators.flash_misfit(device, spec.dtype, _flash_head_size(spec)) for spec in layers]
        self._skipped_slot = 0
        self._batches: dict[tuple[int, int, int | None], DecodeBatch] = {}
        self._slot_buffers: dict[int, Tensor] = {}
        self._step: AttentionMetadata | None = None
        self.slots = torch.empty(0, dtype=torch.int64, device=device)
        self._decodes: dict[int | None, DecodeBatch] = {}
        self._prefills: dict[int | None, PrefillBatch] = {}
        self._fresh: dict[int, tuple[Tensor, Tensor]] = {}

    def describe(self) -> list[str]:
        """How each layer is served, for the start banner."""
        count = len(self._layers)
        notes = [f"paged split-K decode and FlashAttention 2 prefill, blocks of {self.block_size}"]
        for reason in dict.fromkeys(reason for reason in self._no_flash if reason is not None):
            served = self._no_flash.count(reason)
            notes.append(f"prefill of {served} of {count} layers in torch, not FlashAttention 2: {reason}")
        if self._device.type == "cuda" and any(spec.dtype == torch.float32 for spec in self._layers):
            notes.append("decodes of float32 layers multiply in TF32 (10 bits of mantissa)")
        padded = sum(size != spec.head_size for size, spec in zip(self._padded, self._layers, strict=True))
        if padded:
            notes.append(f"heads of {padded} of {count} layers are padded in the cache")
        return [f"xformers attention: {note}" for note in notes]

    def bytes_per_block(self) -> int:
        """Padding counts, the one extra block of `allocate` does not."""
        slot = sum(
            2 * spec.num_kv_heads * size * spec.dtype.itemsize
            for spec, size in zip(self._layers, self._padded, strict=True)
        )
        return self.block_size * slot

    def allocate(self, num_blocks: int) -> list[LayerCache]:
        self._skipped_slot = num_blocks * self.block_size
        num_slots = (num_blocks + 1) * self.block_size
        caches = []
        for spec, size in zip(self._layers, self._padded, strict=True):
            keys, values = (
                torch.zeros(num_slots, spec.num_kv_heads, size, dtype=spec.dtype, device=self._device) for _ in range(2)
            )
            caches.append(LayerCache(keys=keys, values=values))
        return caches

    def plan(self, metadata: AttentionMetadata) -> None:
        metadata.check(self.block_size)
        self._step = metadata
        self._fresh.clear()
        mapping = metadata.slot_mapping
        self.slots = self._slot_buffer(mapping.shape[0])
        self.slots.copy_(torch.where(mapping < 0, self._skipped_slot, mapping))
        num_decodes = metadata.num_decodes
        self._decodes, self._prefills = {}, {}
        for window in self._windows:
            if num_decodes:
                batch = self._decode_batch(num_decodes, metadata.block_tables.shape[1], window)
                batch.update(metadata.seq_lens[:num_decodes], metadata.block_tables[:num_decodes])
                self._decodes[window] = batch
            if any(metadata.query_lens[num_decodes:]):
                self._prefills[window] = PrefillBatch(metadata, window, self.block_size)

    def _decode_batch(self, num_decodes: int, table_width: int, window: int | None) -> DecodeBatch:
        size, width = batch_bucket(num_decodes), width_bucket(table_width, self.block_size)
        if (size, width, window) not in self._batches:
            self._batches[size, width, window] = DecodeBatch(
                self._operators, size, width, window, self.block_size, self._device
            )
        return self._batches[size, width, window]

    def _slot_buffer(self, num_tokens: int) -> Tensor:
        """The same memory for the same number of tokens, step after step."""
        size = 1 << max(0, num_tokens - 1).bit_length()
        if size not in self._slot_buffers:
            self._slot_buffers[size] = torch.empty(size, dtype=torch.int64, device=self._device)
        return self._slot_buffers[size][:num_tokens]

    def write_kv(self, layer: int, key: Tensor, value: Tensor, cache: LayerCache) -> None:
        spec = self._layers[layer]
        cache.keys[..., : spec.head_size].index_copy_(0, self.slots, key)
        cache.values[..., : spec.value_head_size].index_copy_(0, self.slots, value)
        self.note_written(layer, key, value)

    def note_written(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Of a prompt with nothing before it, prefill takes the keys and values as they are, without a gather."""
        window = self._layers[layer].window
        if window in self._prefills and self._prefills[window].has_no_prefix:
            self._fresh[layer] = (key, value)

    def attend(self, layer: int, query: Tensor, cache: LayerCache, sinks: Tensor | None = None) -> Tensor:
        assert self._step is not None, "plan was not called"
        spec, num_decodes = self._layers[layer], self._step.num_decodes
        if num_decodes == query.shape[0]:
            return self._decode(layer, query, cache, sinks)
        out = query.new_zeros(query.shape[0], spec.num_heads, spec.value_head_size)
        if num_decodes:
            out[:num_decodes] = self._decode(layer, query[:num_decodes], cache, sinks)
        if spec.window in self._prefills:
            chunk = slice(num_decodes, num_decodes + self._prefills[spec.window].num_tokens)
            out[chunk] = self._prefill(layer, query[chunk], cache, sinks)
        return out

    def _decode(self, layer: int, query: Tensor, cache: LayerCache, sinks: Tensor | None) -> Tensor:
        spec, size = self._layers[layer], self._padded[layer]
        batch = self._decodes[spec.window]
        num_rows = query.shape[0]
        if size != spec.head_size or num_rows != batch.size:
            query = F.pad(query, (0, size - spec.head_size, 0, 0, 0, batch.size - num_rows))
        out, lse = self._operators.paged_decode(
            query,
            cache.keys,
            cache.values,
            batch.bias,
            spec.scale,
            self.num_splits(batch, spec.num_kv_heads),
            with_lse=sinks is not None,
        )
        return _with_sinks(out, lse, sinks)[:num_rows, :, : spec.value_head_size]

    def num_splits(self, batch: DecodeBatch, num_kv_heads: int) -> int:
        """Pieces a context is cut into: enough programs to fill the GPU when half of them have nothing to do, and no
        more, so that all run at once; none of them tiny.

        xformers' own choice ignores the number of key-value heads, and cuts a wide table of short sequences
        into 64 pieces.
        """
        wanted = RESIDENT_PROGRAMS * self._multiprocessors * LEAST_FILLED // (batch.size * num_kv_heads)
        return max(1, min(wanted, MAX_SPLITS, batch.width * self.block_size // MIN_SPLIT_TOKENS))

    def _prefill(self, layer: int, query: Tensor, cache: LayerCache, sinks: Tensor | None) -> Tensor:
        assert self._step is not None
        spec, chunks = self._layers[layer], self._prefills[self._layers[layer].window]
        # FA2 takes more head sizes than the paged kernel, so its scratch is cut back to the real one.
        size = _flash_head_size(spec)
        fresh = self._fresh.pop(layer, None)
        if fresh is not None and size == spec.head_size:
            rows = slice(self._step.num_decodes, self._step.num_decodes + chunks.num_tokens)
            keys, values, kv_lens = fresh[0][rows], fresh[1][rows], chunks.query_lens
        else:
            slots, kv_lens = chunks.slots(), chunks.kv_lens
            keys = cache.keys.index_select(0, slots)[..., :size]
            values = cache.values.index_select(0, slots)[..., :size]
        if size != spec.head_size:
            query = F.pad(query, (0, size - spec.head_size))
        lse: Tensor | None
        if self._no_flash[layer] is None:
            bias = chunks.bias(self._operators, kv_lens)
            out, lse = self._operators.flash_prefill(query, keys, values, bias, spec.scale, with_lse=sinks is not None)
        else:
            out, lse = torch_prefill(query, keys, values, chunks.query_lens, kv_lens, spec.scale, spec.window)
        return _with_sinks(out, lse, sinks)[..., : spec.value_head_size]


def padded_head_size(spec: LayerSpec) -> int:
    """Size of a head in the cache: the kernel's next one that holds keys and values. Raises ValueError."""
    needed = max(spec.head_size, spec.value_head_size)
    for size in HEAD_SIZES:
        if size >= needed:
            return size
    raise ValueError(f"heads of {needed} are wider than {HEAD_SIZES[-1]}, the widest the paged kernel takes")


def _flash_head_size(spec: LayerSpec) -> int:
    """FA2 wants keys and values of one size that is a multiple of 8."""
    plain = spec.head_size == spec.value_head_size and spec.head_size % 8 == 0
    return spec.head_size if plain else padded_head_size(spec)


def _with_sinks(out: Tensor, lse: Tensor | None, sinks: Tensor | None) -> Tensor:
    """Let each head's sink take its part of the softmax afterwards: out [B, H, D], lse [B, H], sinks [H].

    With Z the denominator without the sink s, every weight shrinks by Z / (Z + exp(s)) = sigmoid(log Z - s).
    """
    if sinks is None or lse is None:
        return out
    share = torch.sigmoid(lse.float() - sinks.float())
    return (out.float() * share[..., None]).to(out.dtype)


def device_misfit(device: torch.device) -> str | None:
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if device.type != "cuda":
        return f"it runs on NVIDIA GPUs, not on {device}"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no NVIDIA GPU"
    if torch.version.cuda is None:
        return "this torch was built for ROCm; only CUDA builds were tried"
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < (8, 0):
        return f"the GPU has compute capability {major}.{minor}, the kernels need 8.0 (A100) or higher"
    return None


def _layers_misfit(layers: list[LayerSpec], device: torch.device, block_size: int) -> str | None:
    if block_size not in BLOCK_SIZES:
        sizes = ", ".join(map(str, BLOCK_SIZES))
        return f"blocks of {block_size} tokens are not one of {sizes}; {DEFAULT_BLOCK_SIZE} is best"
    for index, spec in enumerate(layers):
        if spec.softcap is not None:
            return (
                f"layer {index} caps its scores at {spec.softcap}, for which xformers has no form; "
                "the triton backend has it"
            )
        if spec.cache_dtype is not None:
            return "its kernels read keys and values as the model computes them; the triton backend reads rounded ones"
        if spec.dtype not in DTYPES:
            return f"layer {index} computes in {spec.dtype}; it takes float16, bfloat16 and float32"
        if spec.dtype == torch.bfloat16 and device.type == "cpu":
            return "Triton's interpreter multiplies bfloat16 wrongly; use float16 or float32 there"
        if spec.num_heads % spec.num_kv_heads:
            return f"layer {index} has {spec.num_heads} heads for {spec.num_kv_heads} key-value heads"
        if max(spec.head_size, spec.value_head_size) > HEAD_SIZES[-1]:
            return (
                f"layer {index} has heads of {max(spec.head_size, spec.value_head_size)}, wider than "
                f"{HEAD_SIZES[-1]}, the widest the paged kernel takes"
            )
    return None
