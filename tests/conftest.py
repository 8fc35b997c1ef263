"""Triton's interpreter, for all tests.

Tests marked `interpreted` run in another process, one for each file, where Triton interprets its kernels on the CPU.
Triton decides when it is imported whether kernels are compiled or interpreted: both cannot share a process.
Each test still reports for itself; its assertions are made over there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

VARIABLE = "TRITON_INTERPRET"
TIMEOUT_S = 1500
"""For all of a file's tests on a machine that does other things as well; quiet ones need a tenth."""
OUTCOMES = pytest.StashKey[dict[Path, dict[str, str | None]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "interpreted: needs Triton's interpreter, runs in a process of its own")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("interpreted") is not None and os.environ.get(VARIABLE) != "1":
            item.add_marker(pytest.mark.timeout(TIMEOUT_S + 60))  # the first of a file waits for all of it


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if pyfuncitem.get_closest_marker("interpreted") is None or os.environ.get(VARIABLE) == "1":
        return None
    failure = _outcomes(pyfuncitem).get(_key(pyfuncitem), "was not run by the other process")
    if failure is not None:
        pytest.fail(failure, pytrace=False)
    return True


def _key(item: pytest.Item) -> str:
    """As the report names it: the file with dots for slashes, then the test."""
    return f"{item.nodeid.split('::')[0].removesuffix('.py').replace('/', '.')}::{item.name}"


def _outcomes(item: pytest.Item) -> dict[str, str | None]:
    """By test of its file: None if it passed, else what went wrong. The first test asked for runs all of them."""
    known = item.session.stash.setdefault(OUTCOMES, {})
    if item.path not in known:
        here = [other for other in item.session.items if other.path == item.path]
        known[item.path] = _run([each for each in here if each.get_closest_marker("interpreted")], item.config.rootpath)
    return known[item.path]


def _run(items: list[pytest.Item], root: Path) -> dict[str, str | None]:
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-m", "interpreted", "-W", "ignore", f"--junitxml={report}", f"--rootdir={root}"]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *options, *(item.nodeid for item in items)],
                cwd=root,
                env={**os.environ, VARIABLE: "1", "OMP_NUM_THREADS": "1"},  # the tensors are tiny
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {_key(item): f"the other process took more than {TIMEOUT_S} s" for item in items}
        if not report.exists():
            pytest.fail(f"the other process gave no report:\n{done.stdout}{done.stderr}", pytrace=False)
        cases = list(ElementTree.parse(report).iter("testcase"))
    outcomes: dict[str, str | None] = {}
    for case in cases:
        # A skipped test has proved nothing, so it counts as failed.
        problems = [child for child in case if child.tag in ("failure", "error", "skipped")]
        outcomes[f"{case.attrib['classname']}::{case.attrib['name']}"] = problems[0].text if problems else None
    return outcomes
