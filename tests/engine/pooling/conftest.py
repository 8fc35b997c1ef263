"""Shared by the tests of pooling: texts as token ids."""

from __future__ import annotations

import pytest
import torch
from pooling_checkpoints import VOCAB_SIZE

LENGTHS = [1, 30, 7, 100, 16, 2]


@pytest.fixture(scope="session")
def texts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(5, VOCAB_SIZE, (length,), generator=generator).tolist() for length in LENGTHS]
