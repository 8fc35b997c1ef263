"""Lets the tests here start servers as those of the handlers do."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "handlers"))
