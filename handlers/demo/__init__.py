"""The built-in demo models: tiny checkpoints that chat, embed and rerank, and the scripts that made them."""

from __future__ import annotations

from pathlib import Path


def checkpoint_path() -> Path:
    """The folder of the chat model, readable by anything that loads a Hugging Face checkpoint."""
    return Path(__file__).with_name("assistant")


def embedder_path() -> Path:
    """The folder of the embedder, readable by sentence-transformers too."""
    return Path(__file__).with_name("embedder")


def reranker_path() -> Path:
    """The folder of the reranker: a cross-encoder of one label."""
    return Path(__file__).with_name("reranker")
