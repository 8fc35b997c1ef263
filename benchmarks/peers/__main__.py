"""Measure this server and its peers side by side: same cores, same checkpoints, in turn, in one run.

    python -m benchmarks.peers SETTINGS.yaml                          everything, about 35 minutes on two cores
    python -m benchmarks.peers SETTINGS.yaml --models encoder,reranker
    python -m benchmarks.peers SETTINGS.yaml --models large --rows "decode c1,decode c8" --rounds 5

SETTINGS.yaml says where the peers are (see `servers`). All servers of a model stay alive; whoever is not measured is
suspended. Every round measures each row on each server in rotating order, and what the machine gives before and after.
Prints the rows with their bars, and writes benchmarks/results/peers-<date>-<commit>.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import sentence_transformers
import torch
import transformers

from benchmarks.models import checkpoint
from benchmarks.peers.bounds import products
from benchmarks.peers.encoders import encoder
from benchmarks.peers.processes import PinnedServer, PinnedWorker, environment
from benchmarks.peers.quiet import Quiet
from benchmarks.peers.rows import ROWS, Row, chosen
from benchmarks.peers.servers import ENCODERS, OURS, Peer, Recipe, read_settings, recipes
from benchmarks.peers.turns import Contestant, Rounds
from benchmarks.peers.verdict import Line, Verdict, judge, judge_starts, table
from benchmarks.run import ROOT, commit, cpu_name
from benchmarks.server import free_port

QUICK_START_S = 20.0
"""Servers that start in less are started as often as there are rounds; of slow ones the first start has to do."""


class Comparison:
    def __init__(self, arguments: argparse.Namespace, peers: dict[str, Peer], log: IO[bytes]) -> None:
        self._arguments, self._peers, self._log = arguments, peers, log
        self._quiet = Quiet(arguments.lock, arguments.lock_s)
        self.runs: list[Line] = []
        self.starts: list[Line] = []
        self.commands: dict[str, list[str]] = {}

    def model(self, model: str, rows: Sequence[Row]) -> None:
        """All servers of one model, started one after the other, measured in turn and ended."""
        folder = encoder(model, ROOT / ".models") if model in ENCODERS else checkpoint(model, ROOT / ".models")
        arguments = self._arguments
        wanted = [each for each in self._recipes(model, folder) if any(each.takes(row.name) for row in rows)]
        with ExitStack() as alive:
            contestants = []
            for recipe in wanted:
                server = self._start(model, folder, recipe)
                alive.callback(server.end)
                contestants.append(Contestant(recipe.peer, recipe, server))
            if model in ENCODERS and arguments.takes("sentence-transformers"):
                library = self._worker(alive, "benchmarks.peers.in_process", rows[0].name, str(folder))
                contestants.append(Contestant("sentence-transformers", None, library))
            probe = self._worker(alive, "benchmarks.peers.probe")
            rounds = Rounds(contestants, probe, products(folder), self._quiet, self._emit_run)
            rounds.run(rows, arguments.rounds)

    def _worker(self, alive: ExitStack, module: str, *words: str) -> PinnedWorker:
        """A module of ours on the servers' cores, suspended."""
        with self._quiet:
            worker = PinnedWorker(module, words, self._arguments.server_cores, self._log)
            alive.callback(worker.end)
            worker.suspend()
        return worker

    def _recipes(self, model: str, folder: Path) -> list[Recipe]:
        arguments = self._arguments
        found = recipes(model, folder, self._peers, arguments.server_cores, tuple(arguments.flags))
        return [recipe for recipe in found if arguments.takes(recipe.peer)]

    def _start(self, model: str, folder: Path, recipe: Recipe) -> PinnedServer:
        """Started as often as its readiness is measured; the last one stays, suspended."""
        weights_mib = (folder / "model.safetensors").stat().st_size / (1 << 20)
        for left in reversed(range(max(1, self._arguments.starts))):
            with self._quiet:
                server = self._server(recipe)
                if not left or server.ready_s > QUICK_START_S:
                    server.suspend()
                else:
                    server.end()
            beyond = server.idle_mib - weights_mib - recipe.kv_cache_mib
            line = {"model": model, "peer": recipe.name, "ready_s": round(server.ready_s, 2)}
            line |= {"idle_mib": server.idle_mib, "idle_beyond_mib": round(beyond)}
            self.starts.append(line)
            print(json.dumps(line), flush=True)
            if server.is_suspended:
                break
        return server

    def _server(self, recipe: Recipe) -> PinnedServer:
        port = free_port()
        command = [word.replace("{port}", str(port)) for word in recipe.command]
        self.commands[recipe.name] = [Path(word).name if "/" in word else word for word in recipe.command]
        cores = self._arguments.server_cores
        env = environment(cores, recipe.environment, is_ours=recipe.peer == OURS)
        return PinnedServer(command, port, cores, env, self._log)

    def _emit_run(self, line: Line) -> None:
        self.runs.append(line)
        keys = ("model", "row", "peer", "round", "output_tok_s", "total_tok_s", "req_s", "texts_s", "wall_s", "bound")
        told = {key: line[key] for key in keys if line.get(key) is not None}
        if line.get("errors"):
            told |= {"errors": line["errors"], "first_error": line.get("first_error")}
        print(json.dumps(told), flush=True)

    def verdicts(self) -> list[Verdict]:
        found = []
        for model in dict.fromkeys(row.model for row in ROWS):
            for row in ROWS:
                lines = [line for line in self.runs if (line["model"], line["row"]) == (model, row.name)]
                if row.model == model and lines:
                    found.append(judge(model, row.name, row.figure, row.bar, lines))
            found += judge_starts(model, [line for line in self.starts if line["model"] == model])
        return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path, help="YAML file that says where the peers are")
    models = list(dict.fromkeys(row.model for row in ROWS))
    parser.add_argument("--models", "--only", default=",".join(models), help="default: %(default)s")
    parser.add_argument("--rows", default="", help="names separated by commas, such as 'decode c1,prefix c8'")
    parser.add_argument("--peers", default="", help="only these, separated by commas; ours is always measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=3, help="how often quick servers are started for their readiness")
    parser.add_argument("--server-cores", default="0,1")
    parser.add_argument("--client-core", type=int, default=2, help="the load generator's core; -1: any")
    parser.add_argument(
        "--lock",
        type=Path,
        action="append",
        default=[],
        help="file to lock while measuring; others who use it then wait",
    )
    parser.add_argument(
        "--lock-s", type=float, default=100.0, help="seconds after which the locks are let go for a moment"
    )
    parser.add_argument("--log", default=os.devnull, help="where the servers' own output goes")
    parser.add_argument("--out", type=Path, help="default: a new file in benchmarks/results")
    parser.add_argument("flags", nargs="*", help="after --: more flags for our server")
    arguments = parser.parse_args()
    arguments.models = arguments.models.split(",")
    if unknown := set(arguments.models) - set(models):
        parser.error(f"unknown models {', '.join(unknown)}; known are {', '.join(models)}")
    arguments.rows = [name for name in arguments.rows.split(",") if name]
    if unknown := set(arguments.rows) - {row.name for row in ROWS}:
        parser.error(f"unknown rows {', '.join(unknown)}; known are {', '.join(dict.fromkeys(r.name for r in ROWS))}")
    named = [name for name in arguments.peers.split(",") if name]
    arguments.takes = lambda peer: not named or peer in (OURS, *named)
    return arguments


def result(comparison: Comparison, arguments: argparse.Namespace, peers: dict[str, Peer]) -> dict[str, Any]:
    return {
        "benchmark": "peers",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "commit": commit(),
        "machine": {
            "cpu": cpu_name(),
            "server_cores": arguments.server_cores,
            "client_core": arguments.client_core,
            "capability": torch.backends.cpu.get_cpu_capability(),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "sentence-transformers": sentence_transformers.__version__,
        }
        | {name: peer.version for name, peer in peers.items() if peer.version},
        "rounds": arguments.rounds,
        "flags": arguments.flags,
        "commands": comparison.commands,
        "verdicts": [each.as_json() for each in comparison.verdicts()],
        "starts": comparison.starts,
        "runs": comparison.runs,
    }


def main() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all servers are ended too
    arguments = parse()
    peers = read_settings(arguments.settings)
    if arguments.client_core in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {arguments.client_core})
    with open(arguments.log, "ab") as log:
        comparison = Comparison(arguments, peers, log)
        try:
            for model in arguments.models:
                if rows := chosen([model], arguments.rows):
                    comparison.model(model, rows)
        finally:  # an hour's work is not lost when the last server fails
            if comparison.starts:
                write(comparison, arguments, peers)


def write(comparison: Comparison, arguments: argparse.Namespace, peers: dict[str, Peer]) -> None:
    found = result(comparison, arguments, peers)
    today = found["date"].partition("T")[0]
    out = arguments.out or ROOT / "benchmarks" / "results" / f"peers-{today}-{found['commit']}.json"
    out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(table(comparison.verdicts()))
    print(f"written to {out}")


if __name__ == "__main__":
    main()
