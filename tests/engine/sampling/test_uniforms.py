"""Draws are even over [0, 1), without state and without visible ties between neighbours."""

from __future__ import annotations

import numpy as np
from naive_sampling import request

from specserve.engine.sampling.uniforms import uniforms


def test_draws_are_evenly_spread_over_positions_and_over_seeds() -> None:
    by_position = uniforms([request(seed=1, answer=(0,) * at) for at in range(2000)], 0)
    by_seed = uniforms([request(seed=at) for at in range(2000)], 0)
    by_index = uniforms([request(seed=1, index=at) for at in range(2000)], 0)
    for draws in (by_position, by_seed, by_index):
        assert draws.min() >= 0.0
        assert draws.max() < 1.0
        # Largest distance to the even distribution; chance exceeds it once in a million times (Kolmogorov).
        ideal = (np.arange(2000) + 0.5) / 2000
        assert float(np.abs(np.sort(draws) - ideal).max()) < 0.06
        assert abs(float(np.corrcoef(draws[:-1], draws[1:])[0, 1])) < 0.11


def test_a_batch_draws_what_each_request_draws_alone() -> None:
    rows = [request(seed=at % 3, index=at) for at in range(5)] + [request(answer=(1,))]
    together = uniforms(rows, 7)
    assert together.tolist() == [float(uniforms([row], 7)[0]) for row in rows]


def test_no_requests_draw_nothing() -> None:
    assert uniforms([], 0).shape == (0,)
