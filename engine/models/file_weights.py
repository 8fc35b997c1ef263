"""Weights that are read from the checkpoint's file itself: only the pages that are used take memory.

What a loader hands out lies in a mapping of the whole file, whose pages have all been touched by the time the other
weights have been packed, and one tensor that is kept keeps them all. A new mapping begins with none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

SMAPS = Path("/proc/self/smaps")


@dataclass(frozen=True, slots=True)
class Mapping:
    """Addresses that show a file from `offset` on; `is_changed`: this process has written to copies of its pages."""

    start: int
    end: int
    offset: int
    inode: int
    path: str
    is_changed: bool


def in_new_mapping(tensor: Tensor) -> Tensor | None:
    """The same numbers in a new mapping of their file, with none of its pages in memory yet.

    None for tensors that lie in no file, in a changed part of one, in a file that has been replaced since, or that are
    not contiguous, and on systems that do not tell.
    """
    if tensor.device.type != "cpu" or not tensor.is_contiguous() or not tensor.numel():
        return None
    first = tensor.data_ptr()
    found = _mapping_at(first)
    if found is None or first + tensor.nbytes > found.end or found.is_changed:
        return None
    try:
        status = os.stat(found.path)
    except OSError:
        return None
    if status.st_ino != found.inode:
        return None
    whole = torch.from_file(found.path, shared=False, size=status.st_size, dtype=torch.uint8)
    at = found.offset + first - found.start
    if at % tensor.itemsize:
        return None
    return whole[at : at + tensor.nbytes].view(tensor.dtype).view(tensor.shape)


def _mapping_at(address: int) -> Mapping | None:
    """The mapping of a file that holds the address."""
    try:
        lines = SMAPS.read_text().splitlines()
    except OSError:
        return None
    for number, line in enumerate(lines):
        place, dash, rest = line.partition("-")
        words = rest.split(maxsplit=5)
        if not dash or len(words) < 6 or ":" in place:
            continue  # a figure of the mapping above, or memory without a file
        start, end = int(place, 16), int(words[0], 16)
        if start <= address < end and words[5].startswith("/"):
            figures = lines[number + 1 : number + 30]
            written = next(figure for figure in figures if figure.startswith("Anonymous:"))
            return Mapping(start, end, int(words[2], 16), int(words[4]), words[5], written.split()[1] != "0")
    return None
