"""Being here lets the tests in the folders below import this folder's `fake_engine` and `running_server`.

They may also import the engine tests' tiny checkpoints and trained tokenizers.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "engine"))
sys.path.insert(0, str(Path(__file__).parent / "pooling"))
