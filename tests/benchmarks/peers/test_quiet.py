"""Locks that are held over measurements."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from benchmarks.peers.quiet import Quiet


def is_free(path: Path) -> bool:
    with path.open("a") as other:
        try:
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def locks(tmp_path: Path) -> list[Path]:
    return [tmp_path / "first", tmp_path / "second"]


def test_locks_are_held_until_their_time_is_over(locks: list[Path]) -> None:
    with Quiet(locks, at_most_s=0):
        assert not any(map(is_free, locks))
    assert all(map(is_free, locks))


def test_within_their_time_locks_last_from_one_measurement_to_the_next(locks: list[Path]) -> None:
    quiet = Quiet(locks, at_most_s=1000)
    with quiet:
        pass
    assert not any(map(is_free, locks))
    with quiet:
        assert not any(map(is_free, locks))
    quiet.release()
    assert all(map(is_free, locks))


def test_a_measurement_that_fails_lets_go(locks: list[Path]) -> None:
    quiet = Quiet(locks, at_most_s=1000)
    with pytest.raises(ValueError, match="failed"), quiet:
        raise ValueError("failed")
    assert all(map(is_free, locks))


def test_without_locks_nothing_is_waited_for() -> None:
    with Quiet([], at_most_s=1000):
        pass
