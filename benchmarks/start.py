"""How long the server takes from its command to its first answer, and the memory it holds when it idles.

    python -m benchmarks.start [--starts 5] [--models small,large,encoder] [--out]

Every start is that of a new server on two cores, with the checkpoint in the page cache. Memory is the proportional set
size of all processes once it has stopped growing. Of it, `beyond_mib` is what neither the size of the checkpoint
explains nor the part of the KV cache that is filled in advance. `--out` appends to benchmarks/results.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.models import CONFIGS, checkpoint, encoder
from benchmarks.run import ROOT, commit, cpu_name
from benchmarks.server import filled_cache_mib, serving

RESULTS = ROOT / "benchmarks" / "results"
MODELS: dict[str, Callable[[Path], Path]] = {
    **{name: (lambda root, name=name: checkpoint(name, root)) for name in CONFIGS},  # type: ignore[misc]
    "encoder": encoder,
}


def start(folder: Path, cores: str, log: Path) -> dict[str, float]:
    """One server, started and ended."""
    with log.open("ab") as output, serving(folder, "bench", [], cores, output) as server:
        idle = server.idle_mib
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 2**20
    return {
        "port_s": round(server.port_s, 2),
        "ready_s": round(server.ready_s, 2),
        "idle_mib": idle,
        "beyond_mib": round(idle - weights - filled_cache_mib(folder)),
    }


def medians(runs: list[dict[str, float]]) -> dict[str, Any]:
    return {
        name: {
            "median": statistics.median(run[name] for run in runs),
            "min": min(run[name] for run in runs),
            "max": max(run[name] for run in runs),
        }
        for name in runs[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--models", default=",".join(MODELS), help=f"comma-separated: {', '.join(MODELS)}")
    parser.add_argument("--cores", default="0,1", help="the server's")
    parser.add_argument("--log", type=Path, default=Path(os.devnull), help="where the servers' own output goes")
    parser.add_argument("--out", action="store_true", help="write a file to benchmarks/results")
    arguments = parser.parse_args()
    folders = {name: MODELS[name](ROOT / ".models") for name in arguments.models.split(",")}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in folders}
    for turn in range(arguments.starts + 1):
        for name, folder in folders.items():
            found = start(folder, arguments.cores, arguments.log)
            if turn:  # the first one fills the page cache
                runs[name].append(found)
                print(name, json.dumps(found), flush=True)
    result = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": {"cpu": cpu_name(), "cores": arguments.cores},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "summary": {name: medians(found) for name, found in runs.items()},
        "runs": runs,
    }
    print(json.dumps(result["summary"], indent=1))
    if arguments.out:
        path = RESULTS / f"start-{result['date']}-{result['commit']}.json"
        path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
