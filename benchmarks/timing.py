"""Times of repeated work, and what is told of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

Figures = dict[str, float]


def figures(seconds: Sequence[float]) -> Figures:
    """Microseconds; with under 100 values p99 is the maximum."""
    ordered = sorted(seconds)

    def at(q: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1e6, 1)

    return {
        "median": round(statistics.median(ordered) * 1e6, 1),
        "p10": at(0.1),
        "p90": at(0.9),
        "p99": at(0.99),
        "max": at(1.0),
        "runs": len(ordered),
    }


def timed(work: Callable[[int], object], runs: int) -> Figures:
    """`work` gets the number of the run, from 0 on."""
    taken = []
    for number in range(runs):
        began = perf_counter()
        work(number)
        taken.append(perf_counter() - began)
    return figures(taken)


@contextmanager
def stopwatch(owner: Any, name: str) -> Iterator[list[float]]:
    """Seconds of every call of a function that is looked up as `owner.name`."""
    function, taken = getattr(owner, name), []

    def timed_call(*args: Any, **kwargs: Any) -> Any:
        began = perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            taken.append(perf_counter() - began)

    setattr(owner, name, timed_call)
    try:
        yield taken
    finally:
        setattr(owner, name, function)
