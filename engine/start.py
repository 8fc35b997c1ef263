"""Where the engine process begins: before anything heavy is imported it is tied to its parent, and ignores signals.

    python -m specserve.engine.start FD[,FD ...] [whole]

Each FD is the inherited end of a socket pair with an API process, the first one with the parent. `whole`: import all of
transformers, for models with code of their own.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable

from specserve.engine.lean_imports import import_transformers
from specserve.engine.registry import LazyRegistry

PR_SET_PDEATHSIG = 1
WHOLE = "whole"
_PROCESS: LazyRegistry[Callable[..., int]] = LazyRegistry({"main": "specserve.engine.process:main"})


def die_with_parent() -> None:
    """Ask the kernel for a SIGKILL when the parent dies: the last resort, should this process be stuck."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    die_with_parent()
    # A terminal or a supervisor signals the whole group; the API process decides and closes the channel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.disable()  # what is imported stays: looking through it for garbage takes a tenth of the time
    if WHOLE not in sys.argv[2:]:
        import_transformers()
    run = _PROCESS.load("main")
    gc.freeze()
    gc.enable()
    return run(*map(int, sys.argv[1].split(",")))


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # without waiting for the reader thread and for torch's thread pools
