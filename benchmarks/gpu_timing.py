"""How the GPU's benchmarks go about it: by the device's clock, within a budget, in sections; and the card's limits."""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from benchmarks.result_file import RESULTS
from benchmarks.run import commit, cpu_name


@dataclass
class Stopwatch:
    """Times work on a device; a CPU has no events."""

    device: torch.device
    tries: int = 20

    def seconds(self, work: Callable[[], object]) -> float:
        """Median of `tries` runs, each waited for, after three that warm up."""
        for _ in range(3):
            work()
        taken = []
        for _ in range(self.tries):
            if self.device.type == "cuda":
                before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
                before.record()
                work()
                after.record()
                after.synchronize()
                taken.append(before.elapsed_time(after) / 1e3)
            else:
                began = time.perf_counter()
                work()
                taken.append(time.perf_counter() - began)
        return statistics.median(taken)


class Budget:
    """Seconds the whole run may take; what it does not allow is kept by name."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self.left_out: list[str] = []

    def allows(self, *names: str, needs_s: float = 3.0) -> bool:
        if time.monotonic() + needs_s <= self._until:
            return True
        self.left_out.append(" · ".join(names))
        return False


def captured(work: Callable[[], Tensor], device: torch.device) -> Callable[[], object]:
    """As a graph, as it is served: launches would hide what the kernel takes."""
    if device.type != "cuda":
        return work
    for _ in range(2):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def limits(watch: Stopwatch, size: int = 1 << 30, side: int = 8192) -> dict[str, float]:
    """GB/s of a copy, reads and writes counted; TFLOP/s of a square product."""
    source = torch.ones(size, dtype=torch.uint8, device=watch.device)
    target = torch.empty_like(source)
    x, y = (torch.randn(side, side, device=watch.device, dtype=torch.bfloat16) for _ in range(2))
    return {
        "copy_gb_s": round(2 * size / 1e9 / watch.seconds(lambda: target.copy_(source)), 1),
        "gemm_tflop_s": round(2 * side**3 / 1e12 / watch.seconds(lambda: x @ y), 4),
    }


def versions() -> dict[str, str]:
    names = ("torch", "triton", "xformers", "transformers")
    found: Iterator[tuple[str, str]] = ((name, _version(name)) for name in names)
    return dict(found)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def release() -> None:
    """Give back the device's memory of what is no longer referred to, but for cycles: the next engine takes all."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Sections(dict[str, Any]):
    """What was found. A section that fails takes no other with it, and each is printed when it is there."""

    def add(self, name: str, work: Callable[[], Any]) -> None:
        began = time.perf_counter()
        try:
            self[name] = work()
        except Exception as error:
            traceback.print_exc()
            self[name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
        seconds = round(time.perf_counter() - began, 1)
        print(json.dumps({name: self[name], "seconds": seconds}), flush=True)
        release()


def the_gpu() -> torch.device:
    """Ends the program where there is none."""
    if not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} finds no NVIDIA GPU, and there is nothing to measure without one")
    return torch.device("cuda", torch.cuda.current_device())


def report(name: str, began: datetime, device: torch.device, found: Mapping[str, Any], *, write: bool) -> None:
    """Print what was found and on what; into benchmarks/results/NAME-DATE-COMMIT.json as well, if it is wanted."""
    machine = {"gpu": torch.cuda.get_device_name(device), "cpu": cpu_name(), "python": platform.python_version()}
    about = {"date": began.isoformat(timespec="seconds"), "commit": commit(), "machine": machine}
    text = json.dumps({**about, "versions": versions(), **found}, indent=1)
    print(text)
    if write:
        (RESULTS / f"{name}-{began:%Y-%m-%d}-{commit()}.json").write_text(text + "\n")
