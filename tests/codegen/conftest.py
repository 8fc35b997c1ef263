"""codegen.py and its two parts are scripts beside the package, not parts of it: load them under their own names.

The repository root does not go on the path, because the package's folders would then be importable twice.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
for _name in ("codegen_bundle", "codegen_lint", "codegen"):  # each imports those before it
    _spec = importlib.util.spec_from_file_location(_name, ROOT / f"{_name}.py")
    assert _spec is not None
    assert _spec.loader is not None
    _module = importlib.util.module_from_spec(_spec)
    sys.modules[_name] = _module
    _spec.loader.exec_module(_module)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
