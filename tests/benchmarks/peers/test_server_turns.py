"""Who is measured when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.peers.turns import far_behind, rotated


@given(st.lists(st.text(), min_size=1, unique=True), st.integers(0, 50))
def test_rounds_rotate_so_that_everybody_is_everywhere_equally_often(names: list[str], first: int) -> None:
    rounds = [rotated(names, turn) for turn in range(first, first + len(names))]
    for place in zip(*rounds, strict=True):
        assert sorted(place) == sorted(names)


def test_peers_far_behind_the_best_one_are_named_ours_never() -> None:
    assert far_behind({"specserve": 1.0, "best": 100.0, "half": 50.0, "behind": 49.0}) == {"behind"}
    assert far_behind({"specserve": 1.0}) == set()
