"""Pages of the KV cache are had from the system before requests need them.

Memory of `lazy_zeros` is zeroed when it is first written, within a step: on virtual machines, whose host may have to
find the memory first, that took a fifth of the time of a small model's prompts. A thread of the lowest priority does it
instead, in the order in which blocks are handed out, as soon as the engine is ready. Only the beginning of large caches
is filled: what is never used shall not be taken from others.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
from collections.abc import Iterator, Sequence

from torch import Tensor

MOST_BYTES = 2 << 30
AT_ONCE = 8 << 20
"""Bytes of all tensors that are brought in together."""
LOWEST_PRIORITY = 19
MADV_POPULATE_WRITE = 23  # Linux 5.14
_SYSTEM = ctypes.CDLL(None, use_errno=True)


class CacheFiller(threading.Thread):
    """Fills `tensors` [blocks, …] side by side, from their first blocks on."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        super().__init__(name="cache-filler", daemon=True)
        self._tensors = tensors

    def run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
        for start, length in pieces(self._tensors):
            if _SYSTEM.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), MADV_POPULATE_WRITE):
                return  # an older system, or no memory: pages come when they are written, as without this


def pieces(tensors: Sequence[Tensor]) -> Iterator[tuple[int, int]]:
    """Addresses and lengths in bytes, of whole pages."""
    total = sum(tensor.nbytes for tensor in tensors)
    if not total:
        return
    share = min(1.0, MOST_BYTES / total)
    rounds = max(1, -(-int(total * share) // AT_ONCE))
    for turn in range(rounds):
        for tensor in tensors:
            size = tensor.nbytes * share
            start, end = (tensor.data_ptr() + int(size * at / rounds) for at in (turn, turn + 1))
            start -= start % mmap.PAGESIZE
            if end > start:
                yield start, end - start
