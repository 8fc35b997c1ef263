"""The contract run leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
START = """
import os, sys
sys.path.insert(0, {root!r})
from contract_tests import run
with run.started("-m", "specserve.handlers.serve", *run.FLAGS) as url:
    print(open(f"/proc/self/task/{{os.getpid()}}/children").read(), flush=True)
    sys.stdin.read()
"""


def is_running(process_id: int) -> bool:
    try:
        return "specserve" in Path(f"/proc/{process_id}/cmdline").read_text()
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal for the death of a parent")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_killed_leaves_no_server_behind(number: signal.Signals) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", START.format(root=str(ROOT))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert run.stdout is not None
    lines = iter(run.stdout.readline, "")
    server = next(int(line.split()[0]) for line in lines if line.strip()[:1].isdigit() and len(line.split()) == 1)
    assert is_running(server)
    run.send_signal(number)
    run.communicate()
    limit = time.monotonic() + 60
    while is_running(server):
        assert time.monotonic() < limit, f"server {server} is an orphan"
        time.sleep(0.02)
