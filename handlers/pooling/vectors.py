"""Arrays of numbers as JSON, as base64 and as bytes, in five types and both orders of bytes."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from specserve.handlers.pooling.run import Numbers

Encoding = Literal["float", "base64", "bytes", "bytes_only"]
NumberType = Literal["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"]

IN_ONE_GO = 1 << 16
"""Numbers that are written before others get their turn: about 1.5 ms."""
# Mantissa bits and bias of the exponent; how many finite codes there are from zero upwards.
FP8 = {"fp8_e4m3": (3, 7, 127), "fp8_e5m2": (2, 15, 124)}


@dataclass(frozen=True, slots=True)
class VectorFormat:
    """`is_big_endian` counts for base64 and bytes only."""

    encoding: Encoding = "float"
    dtype: NumberType = "float32"
    is_big_endian: bool = False

    @classmethod
    def of(
        cls,
        encoding: Encoding | None,
        dtype: NumberType | None,
        endianness: Literal["native", "little", "big"] | None,
    ) -> VectorFormat:
        return cls(encoding or "float", dtype or "float32", endianness == "big")

    @property
    def is_binary(self) -> bool:
        return self.encoding in ("bytes", "bytes_only")

    def value(self, numbers: Numbers) -> NDArray[Any] | str:
        """What orjson writes for an array: its numbers, each with the digits its type needs, or base64."""
        if self.encoding == "base64":
            return base64.b64encode(self.data(numbers)).decode("ascii")
        if self.dtype == "float32":
            return numbers
        if self.dtype == "float16":
            return numbers.astype(np.float16)
        return widened(packed(numbers, self.dtype), self.dtype)

    def data(self, numbers: Numbers) -> bytes:
        found = packed(numbers, self.dtype)
        return found.astype(found.dtype.newbyteorder(">" if self.is_big_endian else "<"), copy=False).tobytes()


def packed(numbers: Numbers, dtype: NumberType) -> NDArray[Any]:
    """Rounded to the nearest number of the type, to the even one of two; types numpy lacks as their bits.

    What is larger than the largest finite number of an 8-bit type becomes that.
    """
    if dtype == "float32":
        return numbers
    if dtype == "float16":
        return numbers.astype(np.float16)
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
        rounded: NDArray[Any] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        return rounded
    magnitudes = np.abs(numbers).astype(np.float64)
    midpoints = fp8_midpoints(dtype)
    codes = np.searchsorted(midpoints, magnitudes, side="left")
    is_tie = (codes < len(midpoints)) & (midpoints[np.minimum(codes, len(midpoints) - 1)] == magnitudes)
    codes += is_tie & (codes % 2 == 1)
    signed: NDArray[Any] = (codes + 0x80 * np.signbit(numbers)).astype(np.uint8)
    return signed


def widened(codes: NDArray[Any], dtype: NumberType) -> Numbers:
    """The numbers that `packed` bits stand for."""
    if dtype == "bfloat16":
        wide: Numbers = (codes.astype(np.uint32) << 16).view(np.float32)
        return wide
    values = fp8_values(dtype)[codes & 0x7F].astype(np.float32)
    signed: Numbers = np.where(codes & 0x80, -values, values).astype(np.float32)
    return signed


@cache
def fp8_values(dtype: NumberType) -> NDArray[np.float64]:
    """All finite numbers of the type from zero upwards, by their codes.

    Source: Micikevicius et al. 2022 (FP8 formats for deep learning), tables 1 and 2.
    """
    num_bits, bias, num_codes = FP8[dtype]
    codes = np.arange(num_codes)
    exponents, mantissas = codes >> num_bits, (codes & ((1 << num_bits) - 1)) / (1 << num_bits)
    values: NDArray[np.float64] = np.where(
        exponents == 0, np.ldexp(mantissas, 1 - bias), np.ldexp(1 + mantissas, exponents - bias)
    )
    return values


@cache
def fp8_midpoints(dtype: NumberType) -> NDArray[np.float64]:
    values = fp8_values(dtype)
    midpoints: NDArray[np.float64] = (values[1:] + values[:-1]) / 2
    return midpoints


async def json_array(entries: Iterable[tuple[object, int]]) -> orjson.Fragment:
    """Values that may hold arrays, each with how many numbers it has; others get their turn between them."""
    written, num_unyielded = [], 0
    for value, num_numbers in entries:
        written.append(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
        num_unyielded += num_numbers + 16
        if num_unyielded >= IN_ONE_GO:
            num_unyielded = 0
            await asyncio.sleep(0)
    return orjson.Fragment(b"[" + b",".join(written) + b"]")
