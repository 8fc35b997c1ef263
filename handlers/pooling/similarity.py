"""How well vectors go together, as sentence-transformers computes it, and the same between 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from specserve.handlers.pooling.run import Numbers

Scores = NDArray[np.float64]


def similarities(first: Sequence[Numbers], second: Sequence[Numbers], kind: str) -> Scores:
    """Of vectors row by row; distances count negative, so that more is better."""
    left, right = np.stack(first).astype(np.float64), np.stack(second).astype(np.float64)
    if kind == "dot":
        found: Scores = np.einsum("nd,nd->n", left, right)
    elif kind == "euclidean":
        found = -np.linalg.norm(left - right, axis=1)
    elif kind == "manhattan":
        found = -np.abs(left - right).sum(axis=1)
    else:
        lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        found = np.einsum("nd,nd->n", left, right) / np.maximum(lengths, 1e-12)
    return found


def similarity_from_0_to_1(scores: Scores, kind: str) -> Scores:
    """Keeps the order."""
    if kind == "dot":
        return sigmoid(scores)
    if kind in ("euclidean", "manhattan"):
        return 1 / (1 - scores)
    return np.clip((1 + scores) / 2, 0.0, 1.0)


def max_sim(query: Numbers, document: Numbers) -> float:
    """The best match of each token of the query among those of the document, added up.

    Source: Khattab and Zaharia 2020 (ColBERT), equation 3.
    """
    return float((query.astype(np.float64) @ document.astype(np.float64).T).max(axis=1).sum())


def sigmoid(scores: Scores) -> Scores:
    """Without overflow."""
    exponentials = np.exp(-np.abs(scores))
    found: Scores = np.where(scores >= 0, 1, exponentials) / (1 + exponentials)
    return found
