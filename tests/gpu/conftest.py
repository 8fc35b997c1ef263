"""Tests that need an NVIDIA GPU: `make test-gpu`. They share their cases with the tests that need none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "engine" / "attention"))


@pytest.fixture(autouse=True)
def gpu() -> torch.device:
    """Fails instead of skipping: who asks for these tests wants to know that they did not run."""
    if not torch.cuda.is_available():
        pytest.fail(f"torch {torch.__version__} finds no NVIDIA GPU; `make test` leaves these tests out")
    return torch.device("cuda", torch.cuda.current_device())
