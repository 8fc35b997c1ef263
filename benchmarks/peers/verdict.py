"""From raw runs to a table: medians, the best peer of each row, how far ours is from its bar and from the bound."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.peers.rows import IDLE_BARS_MIB, READY_BARS_S
from benchmarks.peers.servers import OURS

Line = dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of some runs."""

    median: float
    least: float
    most: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        if self.runs == 1:
            return number(self.median)
        return f"{number(self.median)} ({number(self.least)}-{number(self.most)})"


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


@dataclass(frozen=True)
class Verdict:
    """A row, or what starting cost. `ratio` is to the best peer, or for times and memory ours itself."""

    model: str
    row: str
    unit: str
    servers: dict[str, Spread]
    best_peer: str | None
    ratio: float | None
    ratios: tuple[float, float] | None
    """The least and the largest ratio within one round."""
    bar: float | None
    is_met: bool | None
    share_of_bound: float | None
    errors: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def by_server(lines: Iterable[Line], figure: str) -> dict[str, dict[int, float]]:
    """Server, then round, to the figure."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for line in lines:
        found[line["peer"]][line["round"]] = float(line[figure])
    return dict(found)


def judge(model: str, row: str, figure: str, bar: float | None, lines: Sequence[Line]) -> Verdict:
    """The lines of one row: one for each server and round; `bound` in ours, where there is one.

    Runs with errors count nowhere, and a row in which ours had any has missed its bar.
    """
    clean = [line for line in lines if not line.get("errors")]
    rates = by_server(clean, figure)
    spreads = {name: Spread.of(list(runs.values())) for name, runs in rates.items()}
    ours = spreads.get(OURS)
    peers = {name: spread for name, spread in spreads.items() if name != OURS}
    best = max(peers, key=lambda name: peers[name].median) if peers else None
    ratio = ratios = share = None
    if ours is not None and best is not None:
        ratio = ours.median / peers[best].median
        same = [rates[OURS][turn] / rates[best][turn] for turn in rates[OURS] if turn in rates[best]]
        ratios = (min(same), max(same)) if same else None
    shares = [line[figure] / line["bound"] for line in clean if line["peer"] == OURS and line.get("bound")]
    if shares:
        share = statistics.median(shares)
    failed = sum(line.get("errors", 0) for line in lines if line["peer"] == OURS)
    is_met = None if bar is None or ratio is None else ratio >= bar and not failed
    errors = sum(line.get("errors", 0) for line in lines)
    return Verdict(model, row, figure, spreads, best, ratio, ratios, bar, is_met, share, errors)


def judge_starts(model: str, lines: Sequence[Line]) -> list[Verdict]:
    """Seconds to readiness and idle memory of every start of a model; ours alone is judged, and smaller is better."""
    found = []
    for row, key, bars in (("ready", "ready_s", READY_BARS_S), ("idle", "idle_beyond_mib", IDLE_BARS_MIB)):
        runs: dict[str, list[float]] = defaultdict(list)
        for line in lines:
            if line.get(key) is not None:
                runs[line["peer"]].append(line[key])
        spreads = {name: Spread.of(values) for name, values in runs.items()}
        peers = {name: spread.median for name, spread in spreads.items() if name != OURS}
        best = min(peers, key=lambda name: peers[name]) if peers else None
        ours = spreads.get(OURS)
        value = ours.median if ours else None
        bar = bars.get(model)
        is_met = None if bar is None or value is None else value <= bar
        unit = "s" if row == "ready" else "MiB"
        if spreads:
            found.append(Verdict(model, row, unit, spreads, best, value, None, bar, is_met, None))
    return found


def table(verdicts: Sequence[Verdict]) -> str:
    """Markdown: a line for each row, all servers in it."""
    names = [OURS, *sorted({name for each in verdicts for name in each.servers if name != OURS})]
    head = ["model", "row", *names, "of best peer", "bar", "verdict", "of bound"]
    rows = [head, ["---"] * len(head)]
    for each in verdicts:
        rates = [str(each.servers[name]) if name in each.servers else "-" for name in names]
        rows.append([each.model, each.row, *rates, _ratio(each), _bar(each), _word(each), _share(each)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _is_start(each: Verdict) -> bool:
    return each.unit in ("s", "MiB")


def _ratio(each: Verdict) -> str:
    if each.ratio is None or _is_start(each):
        return "-"
    within = f" ({each.ratios[0]:.2f}-{each.ratios[1]:.2f})" if each.ratios else ""
    return f"{each.ratio:.2f}{within} {each.best_peer}"


def _bar(each: Verdict) -> str:
    if each.bar is None:
        return "-"
    return f"≤ {each.bar:g} {each.unit}" if _is_start(each) else f"{each.bar:g}"


def _word(each: Verdict) -> str:
    word = {None: "-", True: "met", False: "MISSED"}[each.is_met]
    return f"{word}, {each.errors} errors" if each.errors else word


def _share(each: Verdict) -> str:
    return "-" if each.share_of_bound is None else f"{each.share_of_bound:.0%}"
