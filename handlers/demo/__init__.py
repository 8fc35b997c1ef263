"""The built-in demo model: a tiny chat checkpoint, and the scripts that made it."""

from __future__ import annotations

from pathlib import Path


def checkpoint_path() -> Path:
    """The folder of the shipped checkpoint, readable by anything that loads a Hugging Face checkpoint."""
    return Path(__file__).with_name("assistant")
