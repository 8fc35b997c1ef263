"""Shared by the engine's tests: tiny random checkpoints, written once per session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_checkpoints import write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny checkpoint by its name in `tiny_checkpoints.ARCHITECTURES`."""
    written: dict[str, Path] = {}

    def folder_of(name: str) -> Path:
        if name not in written:
            written[name] = write_checkpoint(name, tmp_path_factory.mktemp(name))
        return written[name]

    return folder_of
