"""Measure the server beside transformers' `generate`: same machine, same cores, same checkpoint, in turn.

    python -m benchmarks.run                    everything, about 20 minutes on two cores
    python -m benchmarks.run --sizes small --scenarios "decode c8"

Writes benchmarks/results/serve-<date>-<commit>.json: machine, commit, flags, limits before and after, raw
runs, and medians with ratios. Ratios compare figures of one file only.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks import load
from benchmarks.models import CONFIGS, checkpoint
from benchmarks.server import serving

ROOT = Path(__file__).parent.parent


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def commit() -> str:
    """What is checked out; where only the files have been taken, what SPECSERVE_COMMIT says."""
    if not (ROOT / ".git").exists():
        return os.environ.get("SPECSERVE_COMMIT", "unknown")

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")


def on_cores(cores: str, module: str, *words: str) -> dict[str, Any]:
    """Run a module of ours on the server's cores, one OpenMP thread each; its last line is JSON."""
    threads = str(len(core_list(cores)))
    result = subprocess.run(
        ["taskset", "-c", cores, sys.executable, "-m", module, *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": threads},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer


def core_list(cores: str) -> list[int]:
    return [int(core) for core in cores.split(",")]


def bench_size(size: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All runs of one checkpoint: rounds of [generate, server], so that both see the same neighbours."""
    folder = checkpoint(size, ROOT / ".models")
    wanted = [s for s in load.SCENARIOS if arguments.scenarios == "all" or s.name in arguments.scenarios.split(",")]
    lines: list[dict[str, Any]] = []

    def emit(**fields: Any) -> None:
        lines.append({"size": size} | fields)
        print(json.dumps(lines[-1]), flush=True)

    baselines = {"decode c1": (1, 128, 128), "decode c8": (8, 128, 128), "prefill c8": (8, 1024, 16)}
    with open(arguments.log, "ab") as log:
        for turn in range(arguments.runs):
            for scenario in wanted:
                if scenario.name in baselines:
                    shape = map(str, baselines[scenario.name])
                    emit(
                        who="transformers.generate",
                        scenario=scenario.name,
                        turn=turn,
                        **on_cores(arguments.server_cores, "benchmarks.generate", str(folder), *shape),
                    )
            with serving(folder, "bench", arguments.flags, arguments.server_cores, log) as server:
                emit(
                    who="specserve",
                    scenario="start",
                    turn=turn,
                    port_s=round(server.port_s, 2),
                    ready_s=round(server.ready_s, 2),
                    idle_mib=server.idle_mib,
                )
                for scenario in wanted:
                    count = scenario.requests if size == "large" else scenario.small_requests
                    if not count:
                        continue
                    seed = 1000 * turn + 17
                    asyncio.run(load.run(server.url, "bench", scenario, min(count, scenario.concurrency), seed + 1))
                    figures = asyncio.run(load.run(server.url, "bench", scenario, count, seed))
                    emit(who="specserve", scenario=scenario.name, turn=turn, **figures)
                peak = server.peak_mib
            emit(who="specserve", scenario="end", turn=turn, peak_mib=peak)
    return lines


def summary(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Median, minimum and maximum per size, scenario and figure; ratios of rates to `generate`."""
    found: dict[str, Any] = {}
    for key in ("output_tok_s", "total_tok_s", "req_s", "port_s", "ready_s", "idle_mib", "peak_mib"):
        for line in lines:
            if line.get(key) is None:
                continue
            name = f"{line['size']} · {line['scenario']} · {line['who']} · {key}"
            found.setdefault(name, []).append(line[key])
    table: dict[str, Any] = {
        name: {"median": statistics.median(v), "min": min(v), "max": max(v), "runs": len(v)}
        for name, v in found.items()
    }
    for name in list(table):
        ours = name.replace("transformers.generate", "specserve")
        if ours != name and ours in table:
            ratio = table[ours]["median"] / table[name]["median"]
            table[ours]["ratio_to_generate"] = round(ratio, 2)
    return table


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="small,large", help=f"comma-separated: {', '.join(CONFIGS)}")
    parser.add_argument("--scenarios", default="all", help="all, or names separated by commas")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--server-cores", default="0,1")
    parser.add_argument("--client-core", type=int, default=2, help="the load generator's core; -1: any")
    parser.add_argument("--log", default=os.devnull, help="where the server's own output goes")
    parser.add_argument("--out", type=Path, help="default: a new file in benchmarks/results")
    parser.add_argument("flags", nargs="*", help="after --: more flags for the server")
    arguments = parser.parse_args()
    for size in arguments.sizes.split(","):
        checkpoint(size, ROOT / ".models")
    if arguments.client_core in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {arguments.client_core})
    limits = [on_cores(arguments.server_cores, "benchmarks.limits")]
    lines = [line for size in arguments.sizes.split(",") for line in bench_size(size, arguments)]
    limits.append(on_cores(arguments.server_cores, "benchmarks.limits"))
    today = datetime.date.today().isoformat()
    out = arguments.out or ROOT / "benchmarks" / "results" / f"serve-{today}-{commit()}.json"
    result = {
        "date": today,
        "commit": commit(),
        "machine": {
            "cpu": cpu_name(),
            "cores": arguments.server_cores,
            "capability": torch.backends.cpu.get_cpu_capability(),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "flags": arguments.flags,
        "limits_before_and_after": limits,
        "summary": summary(lines),
        "runs": lines,
    }
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(result["summary"], indent=1, ensure_ascii=False))
    print(f"written to {out}")


if __name__ == "__main__":
    main()
