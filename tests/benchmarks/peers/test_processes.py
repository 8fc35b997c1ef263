"""Processes that are suspended while others are measured."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.peers.processes import Pinned, environment
from benchmarks.server import process_tree

PARENT_OF_A_CHILD = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
time.sleep(600)
"""


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_until(what: str, pids: list[int]) -> None:
    while not all((state(pid) == "T") == (what == "suspended") for pid in pids):
        time.sleep(0.01)


@pytest.fixture
def family() -> Iterator[Pinned]:
    core = str(min(os.sched_getaffinity(0)))
    pinned = Pinned([sys.executable, "-c", PARENT_OF_A_CHILD], core, dict(os.environ), subprocess.DEVNULL)
    try:
        while len(process_tree(pinned.process.pid)) < 2:
            time.sleep(0.01)
        yield pinned
    finally:
        pinned.end()


def test_a_process_is_suspended_and_resumed_with_its_children(family: Pinned) -> None:
    tree = process_tree(family.process.pid)
    family.suspend()
    wait_until("suspended", tree)
    family.resume()
    wait_until("running", tree)


def test_a_suspended_process_ends_with_its_children(family: Pinned) -> None:
    tree = process_tree(family.process.pid)
    family.suspend()
    family.end()
    while not all(is_over(pid) for pid in tree):
        time.sleep(0.01)


def is_over(pid: int) -> bool:
    """Gone, or waiting to be collected."""
    try:
        return state(pid) == "Z"
    except FileNotFoundError:
        return True


def test_a_process_runs_on_its_cores_alone(family: Pinned) -> None:
    core = min(os.sched_getaffinity(0))
    assert all(os.sched_getaffinity(pid) == {core} for pid in process_tree(family.process.pid))


def test_peers_do_not_see_our_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    theirs = environment("0,1", {"A": "b"}, is_ours=False)
    assert "PYTHONPATH" not in theirs
    assert (theirs["A"], theirs["OMP_NUM_THREADS"]) == ("b", "2")
    assert environment("3", {}, is_ours=True)["PYTHONPATH"].endswith("src")
