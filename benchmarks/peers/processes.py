"""Processes on the servers' cores that are suspended while others are measured."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.server import memory_mib, process_tree, settled_mib, wait_ready

ROOT = Path(__file__).parent.parent.parent
READY_LIMIT_S = 400.0


def environment(cores: str, more: Mapping[str, str], *, is_ours: bool) -> dict[str, str]:
    """A thread per core, nothing from the network; a peer does not see our sources."""
    threads = str(len(cores.split(",")))
    base = dict(os.environ) | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": threads}
    if is_ours:
        base["PYTHONPATH"] = str(ROOT / "src")
    else:
        base.pop("PYTHONPATH", None)
    return {**base, **more}


class Pinned:
    """A process and its children on some cores. Suspended and resumed with all of them, ended with its group."""

    def __init__(
        self, command: Sequence[str], cores: str, env: Mapping[str, str], log: IO[bytes] | int, **pipes: Any
    ) -> None:
        output = pipes.pop("stdout", log)
        self.process = subprocess.Popen(
            ["taskset", "-c", cores, *command],
            env=dict(env),
            cwd=ROOT,
            stdout=output,
            stderr=log,
            start_new_session=True,
            **pipes,
        )
        self.is_suspended = False

    def suspend(self) -> None:
        self._tell(signal.SIGSTOP)
        self.is_suspended = True

    def resume(self) -> None:
        self._tell(signal.SIGCONT)
        self.is_suspended = False

    def _tell(self, number: signal.Signals) -> None:
        """The whole tree, the children first to stop and last to go on, so that no parent misses one."""
        told: set[int] = set()
        while fresh := [pid for pid in process_tree(self.process.pid) if pid not in told]:
            for pid in fresh if number == signal.SIGSTOP else reversed(fresh):
                told.add(pid)
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue  # it has just ended

    def memory_mib(self) -> int:
        return memory_mib(self.process.pid)

    def end(self) -> None:
        tree = process_tree(self.process.pid)
        if self.is_suspended:
            self.resume()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        for pid in tree:  # children that outlive their parent would keep the cores
            try:
                if os.getsid(pid) == self.process.pid:
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(20)


class PinnedServer(Pinned):
    """One that answers HTTP. `ready_s` is the time from the command to a healthy `/health`."""

    def __init__(
        self, command: Sequence[str], port: int, cores: str, env: Mapping[str, str], log: IO[bytes] | int
    ) -> None:
        super().__init__(command, cores, env, log)
        self.url = f"http://127.0.0.1:{port}"
        try:
            _, self.ready_s = wait_ready(self.url, self.process, READY_LIMIT_S)
        except BaseException:
            self.end()
            raise
        self.idle_mib = settled_mib(self.process.pid)


class PinnedWorker(Pinned):
    """A module of ours that answers a line with one line of JSON."""

    def __init__(self, module: str, words: Sequence[str], cores: str, log: IO[bytes] | int) -> None:
        super().__init__(
            [sys.executable, "-m", module, *words],
            cores,
            environment(cores, {}, is_ours=True),
            log,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        began = time.monotonic()
        self._answer()
        self.ready_s = time.monotonic() - began
        self.idle_mib = self.memory_mib()

    def ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args!r} ended with {self.process.wait()} without an answer")
        answer: dict[str, Any] = json.loads(line)
        return answer
