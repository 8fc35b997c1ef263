"""Vectors in one byte or one bit a number."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specserve.generated.errors import UnsupportedValue
from specserve.handlers.pooling.run import Numbers

DEVIATIONS = 6.0
"""Where the range of a byte ends, in deviations of one number of a vector of length 1, which are 1 / sqrt(size)."""


def small_numbers(vectors: NDArray[np.float32], kind: str) -> NDArray[Any]:
    """Vectors [N, D] of length 1 as `int8`, `uint8` [N, D], `binary` (signed) or `ubinary` [N, D / 8].

    Raises UnsupportedValue for bits of a vector whose size is no multiple of 8.
    """
    size = vectors.shape[1]
    if kind in ("int8", "uint8"):
        limit = min(1.0, DEVIATIONS / sqrt(size))
        numbers: NDArray[Any] = np.clip(np.rint(vectors * (127 / limit)), -128, 127)
        found: NDArray[Any] = numbers.astype(np.int8) if kind == "int8" else (numbers + 128).astype(np.uint8)
        return found
    if size % 8:
        raise UnsupportedValue(
            f"embedding_types {kind} packs eight numbers into one, and these vectors have {size}; "
            "ask for float, int8 or uint8, or for an output_dimension that eight divides",
            param="embedding_types",
        )
    packed: NDArray[Any] = np.packbits(vectors > 0, axis=1, bitorder="big")
    if kind == "ubinary":
        return packed
    signed: NDArray[Any] = (packed.astype(np.int16) - 128).astype(np.int8)
    return signed


def stacked(vectors: list[Numbers]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = np.stack(vectors)
    return found
