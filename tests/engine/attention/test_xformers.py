"""The xformers backend computes what the reference computes; its kernels run in Triton's interpreter.

The kernel source is the one that runs on a GPU, only the compiler differs. Not covered here: bfloat16 (which the
interpreter multiplies wrongly), FlashAttention itself, speed. tests/gpu covers those.
"""

from __future__ import annotations

import pytest
import torch
from attention_cases import CASES, Case, largest_error

from specserve.engine.attention.xformers_backend import XFormersBackend

pytestmark = pytest.mark.interpreted

CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 5e-6, torch.float16: 3e-3}
"""float32: other order of summation. float16: results of size 1 to 4 are rounded to 11 bits, and so are the
weights before they multiply the values."""


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_agrees_with_the_reference(case: Case, dtype: torch.dtype) -> None:
    assert largest_error(XFormersBackend, case, dtype, CPU) <= TOLERANCE[dtype]
