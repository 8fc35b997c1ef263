"""Random numbers without state: a request's draws depend on its seed, its index and the position only.

So a seeded request gives the same text whoever shares its batch, after a preemption and after a restart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from specserve.engine.request import Request

MASK = (1 << 64) - 1
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
SEEDED, UNSEEDED = 1, 2


def uniforms(requests: Sequence[Request], engine_seed: int, leads: int | Sequence[int] = 0) -> NDArray[np.float64]:
    """One number in [0, 1) per request, for the token so many behind its next one.

    Seeded requests are keyed by (seed, index), others by (engine seed, arrival): equal prompts differ.
    """
    return as_uniforms(_states(requests, engine_seed, leads))


def further_uniforms(requests: Sequence[Request], engine_seed: int, count: int) -> NDArray[np.float64]:
    """[r, count]: numbers independent of those of `uniforms` and of each other, for the same next tokens."""
    states = _states(requests, engine_seed)[:, None]
    return as_uniforms(mix(states ^ np.arange(1, count + 1, dtype=np.uint64)))


def _states(requests: Sequence[Request], engine_seed: int, leads: int | Sequence[int] = 0) -> NDArray[np.uint64]:
    if isinstance(leads, int):
        leads = [leads] * len(requests)
    keys = [
        (SEEDED, request.params.seed & MASK, request.index, request.num_generated_tokens + lead)
        if request.params.seed is not None
        else (UNSEEDED, engine_seed & MASK, request.arrival, request.num_generated_tokens + lead)
        for request, lead in zip(requests, leads, strict=True)
    ]
    counters = np.array(keys, dtype=np.uint64).reshape(len(keys), 4)
    state = np.zeros(len(keys), dtype=np.uint64)
    for column in counters.T:
        state = mix(state ^ column)
    return state


def as_uniforms(states: NDArray[np.uint64]) -> NDArray[np.float64]:
    return (states >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One step of SplitMix64. Source: Steele, Lea and Flood 2014; constants of Stafford's variant 13."""
    value = value + GOLDEN
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
