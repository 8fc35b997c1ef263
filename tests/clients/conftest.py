"""Other people's clients, as they are, against a `serve` process with the demo model or a scripted one.

Being here also lets these tests import the handlers' `running_server`, `served_app` and `fake_engine`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "handlers"))
sys.path.insert(0, str(Path(__file__).parent))

# Nothing here leaves the machine: no price lists, no telemetry.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("LANGSMITH_TRACING", "false")

from demo_server import ALIAS, KEY, MODEL, Server
from running_server import serving


@pytest.fixture(scope="session")
def demo() -> Iterator[Server]:
    """The demo model behind the server that users start; one for all files that a test process runs."""
    with serving("--api-key", KEY, "--served-model-name", MODEL, ALIAS) as started:
        started.wait_ready()
        yield Server(f"http://127.0.0.1:{started.port}")
