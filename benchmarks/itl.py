"""How long streams wait for their next token while the prompt of somebody else is computed.

    python -m benchmarks.itl                    with the server's own limit and without one, about two minutes
    python -m benchmarks.itl --rounds 0 --scenarios "prefill c8,decode c8"      the limit's price in throughput

Streams decode steadily; after a while a long prompt arrives, whose time to the first token is taken; and so on for
some rounds. The gaps between the streams' events count as `prompt` from the moment the prompt was sent to its first
token, else as `idle`. Writes benchmarks/results/itl-<date>-<commit>.json.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import random
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import torch

from benchmarks.load import SCENARIOS, ask, events, percentiles, run, words
from benchmarks.models import CONFIGS, checkpoint
from benchmarks.run import ROOT, commit, cpu_name
from benchmarks.server import serving

STREAM_PROMPT = 32
SETTLING_S = 1.5
"""After the streams have started, and after each prompt, before gaps count."""
Span = tuple[float, float]


async def follow(session: aiohttp.ClientSession, url: str, body: dict[str, Any], times: list[float]) -> None:
    """Take the time of every event with text, until cancelled."""
    async with session.post(url, json=body) as response:
        response.raise_for_status()
        async for event in events(response):
            if any(choice.get("text") for choice in event.get("choices", ())):
                times.append(time.perf_counter())
    raise RuntimeError("a stream ended before the measurement did")


async def measure(url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One server: all rounds beside the same streams."""
    rng = random.Random(17)

    def body(num_tokens: int, max_tokens: int) -> dict[str, Any]:
        return {
            "model": "bench",
            "prompt": words(rng, num_tokens),
            "max_tokens": max_tokens,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    path = f"{url}/v1/completions"
    times: list[list[float]] = [[] for _ in range(arguments.streams)]
    idle: list[Span] = []
    busy: list[Span] = []
    ttft: list[float] = []
    timeout = aiohttp.ClientTimeout(total=900)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=2**20) as session, asyncio.TaskGroup() as group:
        await ask(session, path, body(arguments.prompt_tokens, 2))  # nothing is measured that happens the first time
        streams = [
            group.create_task(follow(session, path, body(STREAM_PROMPT, 4000), stream_times)) for stream_times in times
        ]
        for _ in range(arguments.rounds):
            await asyncio.sleep(SETTLING_S)
            began = time.perf_counter()
            await asyncio.sleep(arguments.idle_seconds)
            sent = time.perf_counter()
            idle.append((began, sent))
            answer = await ask(session, path, body(arguments.prompt_tokens, 2))
            first = answer.text_times[0]
            busy.append((sent, first))
            ttft.append(first - answer.started)
        for stream in streams:
            stream.cancel()
    found = {name: gaps(times, spans) for name, spans in (("idle", idle), ("prompt", busy))}
    figures = {f"{name}_itl_ms": percentiles(values) for name, values in found.items()}
    idle_p99, prompt_p99 = (figures[f"{name}_itl_ms"]["p99"] for name in ("idle", "prompt"))  # type: ignore[index]
    return {
        **figures,
        **{f"{name}_gaps": len(values) for name, values in found.items()},
        "p99_ratio": round(prompt_p99 / idle_p99, 2),
        "ttft_ms": [round(1000 * value) for value in ttft],
        "ttft_median_ms": round(1000 * statistics.median(ttft)),
    }


def gaps(times: Sequence[Sequence[float]], spans: Sequence[Span]) -> list[float]:
    """Seconds between neighbouring events of a stream, of those gaps that end within a span."""
    return [
        later - earlier
        for stream in times
        for earlier, later in pairwise(stream)
        if any(begin <= later <= end for begin, end in spans)
    ]


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="large", choices=list(CONFIGS))
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--prompt-tokens", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--idle-seconds", type=float, default=2.5)
    parser.add_argument("--ratios", default="default,0", help="values of --max-step-time-ratio, in turn")
    parser.add_argument("--scenarios", default="", help="of benchmarks.load, run in turn as well: what the limit costs")
    parser.add_argument("--server-cores", default="0,1")
    parser.add_argument("--client-core", type=int, default=2, help="the load generator's core; -1: any")
    parser.add_argument("--log", default=os.devnull, help="where the server's own output goes")
    parser.add_argument("--out", type=Path, help="default: a new file in benchmarks/results")
    arguments = parser.parse_args()
    folder = checkpoint(arguments.size, ROOT / ".models")
    if arguments.client_core in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {arguments.client_core})
    runs = []
    with open(arguments.log, "ab") as log:
        for ratio in arguments.ratios.split(","):
            flags = [] if ratio == "default" else ["--max-step-time-ratio", ratio]
            with serving(folder, "bench", flags, arguments.server_cores, log) as server:
                found = asyncio.run(measure(server.url, arguments)) if arguments.rounds else {}
                runs.append({"max_step_time_ratio": ratio, **found})
                for scenario in SCENARIOS:
                    if scenario.name in arguments.scenarios.split(","):
                        figures = asyncio.run(run(server.url, "bench", scenario, scenario.requests, 17))
                        runs[-1][scenario.name] = figures
            print(json.dumps(runs[-1]), flush=True)
    today = datetime.date.today().isoformat()
    out = arguments.out or ROOT / "benchmarks" / "results" / f"itl-{today}-{commit()}.json"
    result = {
        "date": today,
        "commit": commit(),
        "machine": {"cpu": cpu_name(), "cores": arguments.server_cores},
        "size": arguments.size,
        "streams": arguments.streams,
        "prompt_tokens": arguments.prompt_tokens,
        "runs": runs,
    }
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
