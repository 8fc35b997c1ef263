"""One result file of a benchmark that runs in its own process: what was found, and on what."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.run import commit, cpu_name

RESULTS = Path(__file__).parent / "results"


def write_result(name: str, flags: Mapping[str, Any], found: Mapping[str, Any]) -> Path:
    """benchmarks/results/NAME-DATE-COMMIT.json. Of a model's path among the `flags` only the last part is told."""
    now = datetime.datetime.now(datetime.UTC)
    model = flags.get("model")
    about: dict[str, Any] = {
        "machine": {"cpu": cpu_name(), "cores": sorted(os.sched_getaffinity(0))},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": commit(),
        "date": now.isoformat(timespec="seconds"),
        "flags": {**flags, "model": Path(model).name} if model else dict(flags),
        "load_average": os.getloadavg(),
    }
    path = RESULTS / f"{name}-{now:%Y-%m-%d}-{commit()}.json"
    path.write_text(json.dumps(about | dict(found), indent=1) + "\n")
    return path
