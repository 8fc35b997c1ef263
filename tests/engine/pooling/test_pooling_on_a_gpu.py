"""Models that embed and classify on a GPU that is pretended: values are those of a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pooling_checkpoints import VOCAB_SIZE, Pooling, load, write_checkpoint
from pretended_gpu import pretended_gpu
from transformers import AutoModelForSequenceClassification

from specserve.engine.params import PoolingTask

pytestmark = pytest.mark.interpreted

TOLERANCE = 1e-5


def texts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist() for length in (5, 17, 60)]


def same(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> bool:
    return all(np.abs(one - other).max() <= TOLERANCE for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("num_unseen", [0, 3], ids=["all seen", "three unseen"])
@pytest.mark.parametrize("name", ["bert", "deberta-v2", "modernbert"])
def test_vectors_of_tokens(name: str, num_unseen: int, tmp_path: Path) -> None:
    folder = write_checkpoint(name, tmp_path)
    wanted = Pooling(load(folder))(texts(), PoolingTask.TOKEN_EMBED, num_unseen=num_unseen)
    with pretended_gpu():
        found = Pooling(load(folder, device="cuda"))(texts(), PoolingTask.TOKEN_EMBED, num_unseen=num_unseen)
    assert same(found, wanted)


@pytest.mark.parametrize("name", ["bert", "qwen3"])
def test_embeddings(name: str, tmp_path: Path) -> None:
    folder = write_checkpoint(name, tmp_path)
    wanted = Pooling(load(folder))(texts(), PoolingTask.EMBED)
    with pretended_gpu():
        found = Pooling(load(folder, backend="reference", device="cuda"))(texts(), PoolingTask.EMBED)
    assert same(found, wanted)


@pytest.mark.parametrize("name", ["roberta", "llama"])
def test_classes(name: str, tmp_path: Path) -> None:
    folder = write_checkpoint(name, tmp_path, AutoModelForSequenceClassification, num_labels=3)
    wanted = Pooling(load(folder))(texts(), PoolingTask.CLASSIFY)
    with pretended_gpu():
        found = Pooling(load(folder, backend="reference", device="cuda"))(texts(), PoolingTask.CLASSIFY)
    assert same(found, wanted)
