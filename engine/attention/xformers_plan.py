"""One step's batch as the xformers backend's operators want it: masks over tensors that outlive the step.

The paged kernel is compiled anew for every batch size and table width, so both are rounded up to few values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from specserve.engine.attention.backend import AttentionMetadata

if TYPE_CHECKING:
    from specserve.engine.attention.xformers import XFormersOperators

BATCH_BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
BATCH_BUCKET_STEP = 64
WIDTH_BUCKET_TOKENS = (2048, 8192, 32768, 131072)


def batch_bucket(num_decodes: int) -> int:
    """The batch size a decode batch is padded to; each one costs a kernel compilation per table width."""
    for size in BATCH_BUCKETS:
        if size >= num_decodes:
            return size
    return -(-num_decodes // BATCH_BUCKET_STEP) * BATCH_BUCKET_STEP


def width_bucket(table_width: int, block_size: int) -> int:
    """The number of blocks a block table is padded to."""
    for tokens in WIDTH_BUCKET_TOKENS:
        if tokens >= table_width * block_size:
            return tokens // block_size
    return 1 << (table_width - 1).bit_length()


class DecodeBatch:
    """Up to `size` decodes with tables of up to `width` blocks, of layers with one window.

    The tensors that the mask points to live as long as this object and are rewritten by `update`. A windowed
    layer gets a table that begins with the window's first block: the kernel's splits then divide the window
    instead of the whole context.
    """

    def __init__(
        self,
        operators: XFormersOperators,
        size: int,
        width: int,
        window: int | None,
        block_size: int,
        device: torch.device,
    ) -> None:
        self.size = size
        self.width = width if window is None else min(width, (window + block_size - 2) // block_size + 1)
        self._window = window
        self._block_size = block_size
        self._seq_lens = torch.ones(size, dtype=torch.int32, device=device)
        self._block_tables = torch.zeros(size, self.width, dtype=torch.int32, device=device)
        self._starts: Tensor | None = None
        if window is not None:
            self._starts = torch.zeros(size + 1, dtype=torch.int32, device=device)
        self._columns = torch.arange(self.width, device=device)
        self.bias: Any = operators.decode_bias(self._seq_lens, self._block_tables, block_size, self._starts)

    def update(self, seq_lens: Tensor, block_tables: Tensor) -> None:
        """Take over a step's sequences, seq_lens [n] and block_tables [n, W]; rows from n on see one token.

        Blocks behind a sequence's last one keep what an earlier step left there; they are not read.
        """
        rows, table_width = block_tables.shape
        self._seq_lens[rows:].fill_(1)
        if self._window is None or self._starts is None:
            columns = min(table_width, self.width)
            self._seq_lens[:rows].copy_(seq_lens)
            self._block_tables[:rows, :columns].copy_(block_tables[:, :columns])
            return
        start = (seq_lens - self._window).clamp_(min=0)
        first_block = start // self._block_size
        columns_of = (first_block[:, None] + self._columns).clamp_(max=table_width - 1)
        self._block_tables[:rows].copy_(block_tables.gather(1, columns_of.long()))
        skipped = first_block * self._block_size
        self._seq_lens[:rows].copy_(seq_lens - skipped)
        self._starts[:rows].copy_(start - skipped)
        self._starts[rows:].fill_(0)


class PrefillBatch:
    """The step's chunks of more than one token (or first tokens), of layers with one window.

    `kv_lens` counts, per chunk, the tokens that at least one of its queries sees.
    """

    def __init__(self, metadata: AttentionMetadata, window: int | None, block_size: int) -> None:
        rows = [row for row in range(metadata.num_decodes, len(metadata.query_lens)) if metadata.query_lens[row] > 0]
        self._window = window
        self._block_size = block_size
        self._block_tables = metadata.block_tables
        self._rows = rows
        self._seq_lens = [metadata.seq_lens_list[row] for row in rows]
        self.query_lens = [metadata.query_lens[row] for row in rows]
        self.num_tokens = sum(self.query_lens)
        self.has_no_prefix = self.query_lens == self._seq_lens
        self.kv_lens = self._seq_lens
        if window is not None:
            self.kv_lens = [
                min(seq_len, query_len + window - 1)
                for query_len, seq_len in zip(self.query_lens, self._seq_lens, strict=True)
            ]
        self._slots: Tensor | None = None
        self._biases: dict[tuple[int, ...], Any] = {}

    def slots(self) -> Tensor:
        """Cache slots of all visible context tokens, sequence after sequence, [sum of kv_lens] int64."""
        if self._slots is None:
            device, total = self._block_tables.device, sum(self.kv_lens)
            lengths = torch.tensor(self.kv_lens)
            # Position of the sequence's first visible token, less the number of tokens gathered before it.
            offsets = torch.tensor(self._seq_lens) - lengths.cumsum(0)
            per_chunk = torch.stack([torch.tensor(self._rows), offsets, lengths]).to(device)
            row, offset = per_chunk[:2].repeat_interleave(per_chunk[2], dim=1, output_size=total)
            position = torch.arange(total, device=device) + offset
            block = self._block_tables[row, position // self._block_size].long()
            self._slots = block * self._block_size + position % self._block_size
        return self._slots

    def bias(self, operators: XFormersOperators, kv_lens: list[int]) -> Any:
        """FA2's mask over keys of the given lengths, either `kv_lens` or `query_lens`."""
        if tuple(kv_lens) not in self._biases:
            starts = torch.tensor([[0] * len(kv_lens), self.query_lens, kv_lens]).cumsum(1)
            bounds = torch.nn.functional.pad(starts, (1, 0)).to(self._block_tables.device, torch.int32)
            self._biases[tuple(kv_lens)] = operators.prefill_bias(
                self.query_lens, kv_lens, bounds[1], bounds[2], self._window
            )
        return self._biases[tuple(kv_lens)]
