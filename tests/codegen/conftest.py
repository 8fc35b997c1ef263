"""codegen.py is a script beside the package, not a part of it: load it under its own name.

The repository root does not go on the path, because the package's folders would then be importable twice.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("codegen", ROOT / "codegen.py")
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["codegen"] = _module
_spec.loader.exec_module(_module)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
