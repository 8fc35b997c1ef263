"""Which of the attention tests this machine can run at all."""

from __future__ import annotations

import platform
import sys

if (sys.platform, platform.machine()) != ("linux", "x86_64"):
    # Triton and xformers publish no wheels for other machines; there the backend refuses, and says so.
    collect_ignore = ["test_triton_backend.py", "test_triton_compiles.py", "test_xformers.py", "test_xformers_flash.py"]
