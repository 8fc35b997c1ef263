"""What the comparison says about its runs: medians, best peers, bars, shares."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.peers.verdict import judge, judge_starts, table


def line(peer: str, turn: int, rate: float, **more: Any) -> dict[str, Any]:
    return {"peer": peer, "round": turn, "output_tok_s": rate, "errors": 0} | more


def runs(**rates: list[float]) -> list[dict[str, Any]]:
    return [line(peer, turn, rate) for peer, values in rates.items() for turn, rate in enumerate(values)]


def test_the_bar_is_held_against_the_peer_with_the_best_median() -> None:
    lines = runs(specserve=[30.0, 33.0, 31.0], slow=[10.0, 50.0, 11.0], quick=[20.0, 21.0, 22.0])
    found = judge("large", "decode c1", "output_tok_s", 1.4, lines)
    assert found.best_peer == "quick"
    assert found.ratio == pytest.approx(31 / 21)
    assert found.ratios == (pytest.approx(31 / 22), pytest.approx(33 / 21))
    assert found.is_met is True
    assert (found.servers["slow"].median, found.servers["slow"].least, found.servers["slow"].most) == (11, 10, 50)


def test_a_bar_that_is_reached_exactly_is_met_and_one_above_is_missed() -> None:
    lines = runs(specserve=[30.0], peer=[20.0])
    assert judge("large", "decode c1", "output_tok_s", 1.5, lines).is_met is True
    assert judge("large", "decode c1", "output_tok_s", 1.51, lines).is_met is False


def test_runs_with_errors_count_nowhere() -> None:
    lines = [*runs(specserve=[30.0, 30.0], peer=[20.0]), line("peer", 1, 90.0, errors=3)]
    found = judge("large", "decode c1", "output_tok_s", 1.5, lines)
    assert found.is_met is True
    assert found.ratio == pytest.approx(1.5)
    assert found.errors == 3


def test_an_error_of_ours_misses_the_bar() -> None:
    lines = [*runs(specserve=[30.0], peer=[20.0]), line("specserve", 1, 30.0, errors=1)]
    assert judge("large", "decode c1", "output_tok_s", 1.2, lines).is_met is False


def test_without_a_peer_there_is_neither_ratio_nor_verdict() -> None:
    found = judge("large", "decode c1", "output_tok_s", 1.2, runs(specserve=[30.0]))
    assert (found.best_peer, found.ratio, found.is_met) == (None, None, None)


def test_the_share_is_the_median_of_each_rounds_own() -> None:
    lines = [line("specserve", turn, 20.0, bound=bound) for turn, bound in enumerate((40.0, 25.0, 50.0))]
    assert judge("large", "decode c1", "output_tok_s", None, lines).share_of_bound == pytest.approx(0.5)


def test_rounds_that_a_peer_sat_out_make_no_ratio() -> None:
    found = judge("large", "decode c1", "output_tok_s", 1.0, runs(specserve=[30.0, 60.0], peer=[20.0]))
    assert found.ratios == (1.5, 1.5)
    assert found.servers["peer"].runs == 1


def test_starts_are_judged_by_ours_alone_and_less_is_better() -> None:
    lines = [
        {"peer": "specserve", "ready_s": 4.2, "idle_beyond_mib": 700},
        {"peer": "specserve", "ready_s": 3.8, "idle_beyond_mib": 500},
        {"peer": "specserve", "ready_s": 3.9, "idle_beyond_mib": 590},
        {"peer": "quick", "ready_s": 0.5, "idle_beyond_mib": 20},
        {"peer": "heavy", "ready_s": 50.0, "idle_beyond_mib": 1700},
    ]
    ready, idle = judge_starts("small", lines)
    assert (ready.servers["specserve"].median, ready.is_met, ready.best_peer) == (3.9, True, "quick")
    assert (idle.servers["specserve"].median, idle.is_met, idle.best_peer) == (590, True, "quick")
    ready, idle = judge_starts("small", [{"peer": "specserve", "ready_s": 4.1, "idle_beyond_mib": 601}])
    assert (ready.is_met, idle.is_met) == (False, False)


def test_the_table_has_ours_first_and_names_what_was_missed() -> None:
    verdicts = [
        judge("large", "decode c1", "output_tok_s", 1.6, runs(specserve=[30.0], beside=[20.0])),
        *judge_starts("large", [{"peer": "specserve", "ready_s": 3.0, "idle_beyond_mib": 100}]),
    ]
    head, _, decode, ready, idle = table(verdicts).splitlines()
    assert head == "| model | row | specserve | beside | of best peer | bar | verdict | of bound |"
    assert decode == "| large | decode c1 | 30 | 20 | 1.50 (1.50-1.50) beside | 1.6 | MISSED | - |"
    assert ready == "| large | ready | 3 | - | - | ≤ 6 s | met | - |"
    assert idle == "| large | idle | 100 | - | - | ≤ 600 MiB | met | - |"
