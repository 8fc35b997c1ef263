"""The engine process as its parent sees it before it can talk: process and socket. Light, so that it starts early."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ENVIRONMENT = {
    # Huge pages for weights and cache; torch reads it when it is imported.
    "THP_MEM_ALLOC_ENABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
SPINNING = {"GOMP_SPINCOUNT": "20000"}
"""How long threads that wait for the next product stay awake: some 0.3 ms, longer than between two products of a step
and shorter than between two steps. The rest is the time in which API processes write what the last step computed: with
threads awake all the time, as is the default, streams wait for several steps, and small models lose up to a third."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process that imports, and waits for its configuration on the other end of `connection`."""

    process: subprocess.Popen[bytes]
    connection: socket.socket

    def end(self) -> None:
        """For a child that nobody wants: it is killed and forgotten."""
        self.connection.close()
        self.process.kill()
        self.process.wait()


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """What users set wins."""
    spinning = {} if "OMP_WAIT_POLICY" in given else SPINNING
    return {**ENVIRONMENT, **spinning, **given}


def start_child(*, has_own_code: bool, connections: Sequence[socket.socket] = ()) -> Child:
    """`has_own_code`: the model brings Python code, which may want more of transformers than others do.

    `connections` lead to further API processes, whose ends speak to `link`; they are closed here.
    """
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as stack:
        for connection in (theirs, *connections):
            stack.enter_context(connection)
        numbers = [connection.fileno() for connection in (theirs, *connections)]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "specserve.engine.start", ",".join(map(str, numbers))),
                *(["whole"] if has_own_code else []),
            ],
            pass_fds=numbers,
            stdin=subprocess.DEVNULL,
            env=_environment(os.environ),
            process_group=0,  # a terminal's or supervisor's signal to the group is this process's business
        )
    return Child(process, ours)
