"""The rounds: every row, every server of it in rotating order, all others suspended meanwhile."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import load
from benchmarks.peers import pooling_load
from benchmarks.peers.bounds import Products, Rates, bound, last_cache_bytes
from benchmarks.peers.processes import PinnedServer, PinnedWorker
from benchmarks.peers.quiet import Quiet
from benchmarks.peers.rows import Row, warm_up
from benchmarks.peers.servers import MODEL_NAME, OURS, Recipe

FAR_BEHIND = 0.5
"""A peer under this share of the best one in a row's first round is not asked again: it cannot set the bar."""

Emit = Callable[[dict[str, Any]], None]


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """Another one is first in every round."""
    at = turn % len(names) if names else 0
    return [*names[at:], *names[:at]]


def far_behind(rates: dict[str, float]) -> set[str]:
    """The peers that need no further round, from the rates of one round."""
    peers = {name: rate for name, rate in rates.items() if name != OURS}
    best = max(peers.values(), default=0.0)
    return {name for name, rate in peers.items() if rate < FAR_BEHIND * best}


class Contestant:
    """A server or a library in a process, and how a row is put to it."""

    def __init__(self, name: str, recipe: Recipe | None, process: PinnedServer | PinnedWorker) -> None:
        self.name, self.recipe, self.process = name, recipe, process

    def run(self, row: Row, count: int, seed: int) -> dict[str, Any]:
        if isinstance(self.process, PinnedWorker):
            return self.process.ask(f"{count} {seed}")
        assert self.recipe is not None
        if row.is_pooling:
            root = self.process.url + self.recipe.api_root
            return asyncio.run(pooling_load.run(root, MODEL_NAME, row, count, seed))
        return self._generate(row.scenario, count, seed)

    def warm_up(self, row: Row, seed: int) -> None:
        if row.is_pooling:
            self.run(row, row.scenario.concurrency, seed)
        else:
            self._generate(warm_up(row), row.scenario.concurrency, seed)

    def _generate(self, scenario: load.Scenario, count: int, seed: int) -> dict[str, Any]:
        assert self.recipe is not None
        assert isinstance(self.process, PinnedServer)
        keeps = self.recipe.keeps_connections
        return asyncio.run(load.run(self.process.url, MODEL_NAME, scenario, count, seed, keeps_connections=keeps))


class Rounds:
    """All rounds of one model's rows; `emit` gets a line for every run."""

    def __init__(
        self,
        contestants: Sequence[Contestant],
        probe: PinnedWorker,
        weights: Products,
        quiet: Quiet,
        emit: Emit,
    ) -> None:
        self._all, self._probe, self._weights = list(contestants), probe, weights
        self._quiet, self._emit = quiet, emit
        self._left_out: dict[str, set[str]] = {}
        self._cache = last_cache_bytes()

    def run(self, rows: Sequence[Row], rounds: int) -> None:
        for turn in range(rounds):
            for row in rows:
                with self._quiet:
                    self._row(row, turn)

    def _row(self, row: Row, turn: int) -> None:
        """One round of a row between two measurements of what the machine gives."""
        takers = {each.name: each for each in self._all if each.recipe is None or each.recipe.takes(row.name)}
        takers = {name: each for name, each in takers.items() if name not in self._left_out.get(row.name, ())}
        before = self._rates()
        lines = [self._measure(takers[name], row, turn) for name in rotated(list(takers), turn)]
        after = self._rates()
        rates = Rates(
            statistics.mean((before.read_gb_s, after.read_gb_s)),
            statistics.mean((before.gemm_gflop_s, after.gemm_gflop_s)),
        )
        most = bound(row, self._weights, rates, self._cache)
        for line in lines:
            line |= {"bound": None if most is None else round(most, 2), "rates": [before.__dict__, after.__dict__]}
            self._emit(line)
        if turn == 0:
            self._left_out[row.name] = far_behind({line["peer"]: line[row.figure] for line in lines})

    def _measure(self, one: Contestant, row: Row, turn: int) -> dict[str, Any]:
        seed = 1000 * turn + 17
        one.process.resume()
        try:
            one.warm_up(row, seed + 1)
            figures = one.run(row, row.requests, seed)
        finally:
            one.process.suspend()
        return {"model": row.model, "row": row.name, "peer": one.name, "round": turn} | figures

    def _rates(self) -> Rates:
        self._probe.resume()
        try:
            found = self._probe.ask("measure")
        finally:
            self._probe.suspend()
        return Rates(found["read_gb_s"], found["gemm_gflop_s"])
