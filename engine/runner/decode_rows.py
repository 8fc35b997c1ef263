"""A step of decodes as one buffer: what changes from step to step, on the host, and its twin on the device.

The tensors of a bucket stay where they are, so a captured graph reads every new step from the same memory, and one copy
brings a whole step over.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from specserve.engine.attention.backend import AttentionMetadata
from specserve.engine.batch import ScheduledRequest


class _Buffer:
    """Views of one buffer: token_ids, positions, slots [B] int64; seq_lens [B], block_tables [B, W] int32."""

    def __init__(self, flat: Tensor, size: int, width: int) -> None:
        self.flat = flat
        bounds = (0, size, 2 * size, 3 * size)
        self.token_ids, self.positions, self.slots = (flat[first:last] for first, last in pairwise(bounds))
        integers = flat[3 * size :].view(torch.int32)
        self.seq_lens = integers[:size]
        self.block_tables = integers[size : size * (width + 1)].view(size, width)


class _HostRows:
    """One host buffer and what it holds: a block table is written once, and then grows."""

    def __init__(self, size: int, width: int, *, pinned: bool) -> None:
        length = 3 * size + -(-size * (width + 1) // 2)
        self.buffer = _Buffer(torch.zeros(length, dtype=torch.int64, pin_memory=pinned), size, width)
        self._token_ids, self._positions, self._slots, self._seq_lens, self._tables = (
            tensor.numpy()
            for tensor in (
                self.buffer.token_ids,
                self.buffer.positions,
                self.buffer.slots,
                self.buffer.seq_lens,
                self.buffer.block_tables,
            )
        )
        self._held: list[tuple[str, int, int]] = [("", 0, 0)] * size

    def fill(self, items: Sequence[ScheduledRequest], block_size: int, unknown: int) -> list[int]:
        """Write the rows of a step, and of padding behind them; returns the lengths of all rows.

        `unknown` stands for a token that the step before this one is still choosing.
        """
        lengths = []
        for row, item in enumerate(items):
            request, position = item.request, item.start
            table = request.block_table
            held = (request.request_id, request.num_preemptions, len(table))
            if self._held[row] != held:
                known = self._held[row][2] if self._held[row][:2] == held[:2] else 0
                self._tables[row, known : len(table)] = table[known:]
                self._held[row] = held
            ids = request.token_ids
            self._token_ids[row] = ids[position] if position < len(ids) else unknown
            self._slots[row] = table[position // block_size] * block_size + position % block_size
            self._positions[row] = position
            lengths.append(position + 1)
        padding = len(self._held) - len(items)
        self._token_ids[len(items) :] = 0
        self._positions[len(items) :] = 0
        self._slots[len(items) :] = -1
        lengths += [1] * padding
        self._seq_lens[:] = lengths
        return lengths


class DecodeRows:
    """Steps of up to `size` decodes with tables of up to `width` blocks.

    There are two buffers on the host, in turns: the next step may be written while the device still copies one.
    """

    def __init__(self, size: int, width: int, block_size: int, device: torch.device) -> None:
        self.size, self.width = size, width
        self._block_size = block_size
        pinned = device.type == "cuda"
        self._hosts = [_HostRows(size, width, pinned=pinned) for _ in range(2)]
        self._turn = 0
        self._device = _Buffer(torch.zeros_like(self._hosts[0].buffer.flat, device=device), size, width)
        self._query_start = torch.arange(size + 1, dtype=torch.int32, device=device)
        self._query_lens = [1] * size

    @property
    def token_ids(self) -> Tensor:
        return self._device.token_ids

    @property
    def positions(self) -> Tensor:
        return self._device.positions

    def fill(self, items: Sequence[ScheduledRequest], chosen: Tensor | None = None) -> AttentionMetadata:
        """Bring a step over. `chosen` [n] are the tokens of its rows where the host does not know them yet."""
        host = self._hosts[self._turn]
        self._turn = 1 - self._turn
        lengths = host.fill(items, self._block_size, 0)
        self._device.flat.copy_(host.buffer.flat, non_blocking=True)
        if chosen is not None:
            self._device.token_ids[: len(items)].copy_(chosen)
        return AttentionMetadata(
            query_start=self._query_start,
            seq_lens=self._device.seq_lens,
            block_tables=self._device.block_tables,
            slot_mapping=self._device.slots,
            num_decodes=self.size,
            query_lens=self._query_lens,
            seq_lens_list=lengths,
        )
