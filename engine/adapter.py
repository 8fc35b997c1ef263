"""An adapter as requests carry it: which one it is, and what the runner made of its weights. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """`adapter_id` is never used twice by one engine: a folder that is loaded again gets a new one.

    `weights` have the form that the runner computes with. They live as long as a request holds the adapter.
    """

    adapter_id: int
    name: str
    weights: Any = None


@dataclass(frozen=True, slots=True)
class AdapterRows:
    """`weights` of one adapter, and the rows of a step, from `start` up to `stop`, that they apply to."""

    weights: Any
    start: int
    stop: int
