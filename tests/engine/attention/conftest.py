"""Runs tests marked `interpreted` in one other process, where Triton interprets its kernels on the CPU.

Triton decides when it is imported whether kernels are compiled or interpreted: both cannot share a process.
Each test still reports for itself; its assertions are made over there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

VARIABLE = "TRITON_INTERPRET"
TIMEOUT_S = 280
OUTCOMES = pytest.StashKey[dict[str, str | None]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "interpreted: needs Triton's interpreter, runs in a process of its own"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if pyfuncitem.get_closest_marker("interpreted") is None or os.environ.get(VARIABLE) == "1":
        return None
    failure = _outcomes(pyfuncitem.session).get(pyfuncitem.name, "was not run by the other process")
    if failure is not None:
        pytest.fail(failure, pytrace=False)
    return True


def _outcomes(session: pytest.Session) -> dict[str, str | None]:
    """By test name: None if it passed, else what went wrong. The first test asked for runs all of them."""
    if OUTCOMES not in session.stash:
        selected = [item for item in session.items if item.get_closest_marker("interpreted") is not None]
        session.stash[OUTCOMES] = _run(selected, session.config)
    return session.stash[OUTCOMES]


def _run(items: list[pytest.Item], config: pytest.Config) -> dict[str, str | None]:
    folder = Path(config.rootpath)
    report = Path(config.getoption("basetemp", None) or os.environ.get("TMPDIR", "/tmp"))
    report = report / f"interpreted-{os.getpid()}.xml"
    command = [sys.executable, "-m", "pytest", "-m", "interpreted", "-W", "ignore", f"--junitxml={report}"]
    done = subprocess.run(
        [*command, *(item.nodeid for item in items)],
        cwd=folder,
        env={**os.environ, VARIABLE: "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if not report.exists():
        pytest.fail(f"the interpreting process gave no report:\n{done.stdout}{done.stderr}", pytrace=False)
    outcomes: dict[str, str | None] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        problems = [child for child in case if child.tag in ("failure", "error", "skipped")]
        outcomes[case.attrib["name"]] = problems[0].text if problems else None
    report.unlink()
    return outcomes
