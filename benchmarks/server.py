"""Start a server as a user would, wait until it is ready, watch its memory, end it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from specserve.engine.attention.cache_filling import MOST_BYTES

GROWTH_MIB = 8
"""A second in which a server grows less than this has settled."""
LEAST_CACHE_TOKENS = 262_144
"""Our server's KV cache holds as many at least, by default and where there is memory for them."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def process_tree(pid: int) -> list[int]:
    found = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += process_tree(int(child))
    except OSError:
        pass  # the process has just ended
    return found


def memory_mib(pid: int) -> int:
    """Proportional set size of the process and its children."""
    total = 0
    for each in process_tree(pid):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total >> 10


def settled_mib(pid: int) -> int:
    """The same, once it has stopped growing: servers put things in order after they are ready."""
    before, now = 0, memory_mib(pid)
    while now - before > GROWTH_MIB:
        time.sleep(1)
        before, now = now, memory_mib(pid)
    return now


def filled_cache_mib(folder: Path) -> float:
    """What of the settled memory of our server is its KV cache: it fills the beginning in advance."""
    if "num_key_value_heads" not in json.loads((folder / "config.json").read_text()):
        return 0.0
    return min(MOST_BYTES, LEAST_CACHE_TOKENS * kv_bytes_of_a_token(folder)) / (1 << 20)


def kv_bytes_of_a_token(folder: Path) -> int:
    """Keys and values of all layers in 16 bits."""
    config = json.loads((folder / "config.json").read_text())
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return int(2 * 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head)


class RunningServer:
    def __init__(self, url: str, pid: int, port_s: float, ready_s: float) -> None:
        self.url, self.pid = url, pid
        self.port_s, self.ready_s = port_s, ready_s
        self.idle_mib = settled_mib(pid)
        self.peak_mib = self.idle_mib
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._follow, daemon=True)
        self._watch.start()

    def _follow(self) -> None:
        while not self._ended.wait(1):
            self.peak_mib = max(self.peak_mib, memory_mib(self.pid))

    def end(self) -> None:
        self._ended.set()
        self._watch.join()


def wait_ready(url: str, server: subprocess.Popen[bytes], limit_s: float) -> tuple[float, float]:
    """Seconds from now until the port answers at all, and until it is healthy."""
    start = time.monotonic()
    port_s = None
    while time.monotonic() - start < limit_s:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode} before it was ready")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                now = time.monotonic() - start
                return port_s or now, now
        except urllib.error.HTTPError:
            port_s = port_s or time.monotonic() - start
        except OSError:
            pass
        time.sleep(0.02)
    raise SystemExit(f"the server was not ready after {limit_s} s")


@contextmanager
def serving(model: Path, name: str, flags: list[str], cores: str, log: IO[bytes]) -> Iterator[RunningServer]:
    port = free_port()
    command = ["taskset", "-c", cores, sys.executable, "-m", "specserve.handlers.serve", str(model)]
    command += ["--port", str(port), "--served-model-name", name, *flags]
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        running = RunningServer(url, process.pid, *wait_ready(url, process, 300))
        try:
            yield running
        finally:
            running.end()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
