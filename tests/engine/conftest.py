"""Shared by the engine's tests: tiny random checkpoints, written once per session, and what the processor offers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_checkpoints import write_checkpoint

from specserve.engine.models import cpu_linear
from specserve.engine.native.library import KernelUnavailableError


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny checkpoint by its name in `tiny_checkpoints.ARCHITECTURES`."""
    written: dict[str, Path] = {}

    def folder_of(name: str) -> Path:
        if name not in written:
            written[name] = write_checkpoint(name, tmp_path_factory.mktemp(name))
        return written[name]

    return folder_of


@pytest.fixture(scope="session")
def bfloat16_kernel() -> None:
    """Skips where the processor or the compiler offers no products of bfloat16 of our own."""
    try:
        cpu_linear.self_test()
    except KernelUnavailableError as error:
        pytest.skip(str(error))
