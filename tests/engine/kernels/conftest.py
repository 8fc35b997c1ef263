"""Whether this machine can run the kernels' tests at all."""

from __future__ import annotations

import platform
import sys

if (sys.platform, platform.machine()) != ("linux", "x86_64"):
    collect_ignore_glob = ["test_*.py"]  # Triton publishes no wheels for other machines
