"""Similarities, compared with torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specserve.handlers.pooling.similarity import max_sim, sigmoid, similarities, similarity_from_0_to_1

ORACLES = {
    "cosine": torch.nn.functional.cosine_similarity,
    "dot": lambda first, second: (first * second).sum(dim=1),
    "euclidean": lambda first, second: -torch.nn.functional.pairwise_distance(first, second, eps=0),
    "manhattan": lambda first, second: -torch.nn.functional.pairwise_distance(first, second, p=1, eps=0),
}


@pytest.mark.parametrize("kind", ORACLES)
def test_similarities_are_those_of_torch(kind: str) -> None:
    numbers = np.random.default_rng(1)
    first, second = numbers.normal(size=(2, 5, 16)).astype(np.float32)
    expected = ORACLES[kind](torch.from_numpy(first).double(), torch.from_numpy(second).double())
    assert similarities(list(first), list(second), kind) == pytest.approx(expected.numpy(), abs=1e-9)


@given(scores=st.lists(st.floats(-1000, 1000), min_size=1, max_size=20))
def test_sigmoid_is_that_of_torch(scores: list[float]) -> None:
    values = np.array(scores)
    assert sigmoid(values) == pytest.approx(torch.sigmoid(torch.from_numpy(values)).numpy(), abs=1e-12)


@given(scores=st.lists(st.floats(-1, 1), min_size=2, max_size=20))
@pytest.mark.parametrize("kind", ["cosine", "dot", "euclidean", "manhattan"])
def test_bounded_scores_keep_their_order(kind: str, scores: list[float]) -> None:
    values = -np.abs(np.array(scores)) if kind in ("euclidean", "manhattan") else np.array(scores)
    bounded = similarity_from_0_to_1(values, kind)
    assert ((bounded >= 0) & (bounded <= 1)).all()
    assert (np.diff(bounded[np.argsort(values)]) >= 0).all()


def test_max_sim_adds_up_each_tokens_best_match() -> None:
    numbers = np.random.default_rng(2)
    query, document = numbers.normal(size=(3, 8)).astype(np.float32), numbers.normal(size=(7, 8)).astype(np.float32)
    matches = torch.from_numpy(query).double() @ torch.from_numpy(document).double().T
    assert max_sim(query, document) == pytest.approx(matches.max(dim=1).values.sum().item(), abs=1e-9)
