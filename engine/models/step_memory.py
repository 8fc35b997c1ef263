"""Memory that every step writes to anew, kept between steps: fresh pages cost time to be mapped and zeroed."""

from __future__ import annotations

import torch
from torch import Tensor

ALIGNMENT = 64


class StepMemory:
    """Grows as needed; what one step wants beyond `most_kept` bytes is given back after it."""

    def __init__(self, most_kept: int) -> None:
        self._most_kept = most_kept
        self._kept = torch.empty(0, dtype=torch.uint8)

    def take(self, num_bytes: int) -> Tensor:
        """[num_bytes] uint8 of any content. The next call may give out the same memory."""
        if num_bytes > self._most_kept:
            return torch.empty(num_bytes, dtype=torch.uint8)
        if num_bytes > len(self._kept):
            size = min(max(num_bytes, 2 * len(self._kept)), self._most_kept)  # steps grow one request at a time
            self._kept = torch.empty(size, dtype=torch.uint8)
        return self._kept[:num_bytes]


def places(*sizes: int) -> tuple[list[int], int]:
    """Where pieces of so many bytes lie behind each other, each aligned; and the bytes of all."""
    found, end = [], 0
    for size in sizes:
        found.append(end)
        end += -(-size // ALIGNMENT) * ALIGNMENT
    return found, end
