"""Numbers as JSON, base64 and bytes, compared with torch's types."""

from __future__ import annotations

import base64
import json

import numpy as np
import orjson
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from specserve.handlers.pooling.vectors import NumberType, VectorFormat, json_array, packed, widened

TORCH = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
FLOATS = st.floats(-400, 400, width=32)
VECTORS = arrays.arrays(np.float32, st.integers(1, 40), elements=FLOATS)


@given(vector=VECTORS)
@pytest.mark.parametrize("dtype", TORCH)
def test_numbers_are_rounded_as_torch_rounds(dtype: NumberType, vector: np.ndarray) -> None:
    expected = torch.from_numpy(vector).to(TORCH[dtype])
    size = expected.element_size()
    data = VectorFormat("bytes", dtype).data(vector)
    assert data == bytes(expected.view(torch.uint8 if size == 1 else torch.int16).numpy().tobytes())
    big = VectorFormat("bytes", dtype, is_big_endian=True).data(vector)
    assert big == b"".join(data[at : at + size][::-1] for at in range(0, len(data), size))


@pytest.mark.parametrize("dtype", ["fp8_e4m3", "fp8_e5m2"])
def test_ties_go_to_the_even_code(dtype: NumberType) -> None:
    values = torch.arange(0, 128, dtype=torch.uint8).view(TORCH[dtype]).float()
    values = values[torch.isfinite(values)]
    midpoints = ((values[1:] + values[:-1]) / 2).numpy()
    expected = torch.from_numpy(midpoints).to(TORCH[dtype]).view(torch.uint8).numpy()
    assert packed(midpoints, dtype).tolist() == expected.tolist()


@pytest.mark.parametrize(("dtype", "largest"), [("fp8_e4m3", 448.0), ("fp8_e5m2", 57344.0)])
def test_what_a_byte_cannot_hold_becomes_its_largest_number(dtype: NumberType, largest: float) -> None:
    codes = packed(np.array([1e6, -1e6], dtype=np.float32), dtype)
    assert widened(codes, dtype).tolist() == [largest, -largest]


@given(vector=VECTORS)
async def test_json_comes_back_bit_for_bit(vector: np.ndarray) -> None:
    written = orjson.dumps(await json_array([(VectorFormat().value(vector), vector.size)]))
    assert np.array(json.loads(written)[0], dtype=np.float32).tobytes() == vector.tobytes()


@given(vector=VECTORS)
@pytest.mark.parametrize("dtype", TORCH)
async def test_json_says_what_the_bytes_say(dtype: NumberType, vector: np.ndarray) -> None:
    written = orjson.dumps(await json_array([(VectorFormat("float", dtype).value(vector), vector.size)]))
    expected = torch.from_numpy(vector).to(TORCH[dtype]).float().numpy()
    assert np.array(json.loads(written)[0], dtype=np.float32).tolist() == expected.tolist()


@given(vector=VECTORS)
def test_base64_is_the_little_endian_floats(vector: np.ndarray) -> None:
    value = VectorFormat("base64").value(vector)
    assert isinstance(value, str)
    assert np.frombuffer(base64.b64decode(value), dtype="<f4").tobytes() == vector.tobytes()
