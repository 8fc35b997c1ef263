"""The contract gate: fuzz real servers twice (as drawn; every request streaming), then prove the gate can fail.

    python -m contract_tests.run                     starts `serve` with the demo model, and with tiny random models for
                                                     what that one cannot do: embed, classify, score and rerank
    python -m contract_tests.run --only pooling      only the latter
    python -m contract_tests.run --base-url URL      fuzzes a server that runs already (its key in CONTRACT_KEY)

Ends with 1 if a pass fails, if a request field never took part in a success, or if a planted bug stays unseen. Each
server is asked for what its model can do; that every operation is some server's is checked in the end.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import string
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.server import free_port, wait_ready
from contract_tests import tiny_models
from contract_tests.planted import BUGS, Bug
from specserve.generated.errors import UnsupportedTask
from specserve.generated.operations import OPERATIONS
from specserve.handlers.fields import POLICIES

HERE = Path(__file__).parent
ROOT = HERE.parent
KEY = os.environ.get("CONTRACT_KEY", "contract-key")
MODEL = os.environ.get("CONTRACT_MODEL", "specserve-demo")
FLAGS = [
    "--api-key",
    KEY,
    "--max-model-len",
    "512",
    "--served-model-name",
    MODEL,
    "--log-level",
    "warning",
    "--enable-tokenizer-info-endpoint",
]
LIBC = ctypes.CDLL(None)  # loaded here: a child that has just been forked should load nothing
PR_SET_PDEATHSIG = 1
POOLING_PATHS = {op.path for op in OPERATIONS.values() if op.tag in ("embeddings", "pooling", "classify", "score")}
POOLING_PATHS |= {op.path for op in OPERATIONS.values() if op.tag in ("rerank", "cohere")}
Covered = dict[str, set[str]]
"""Fields that took part in a success, by path."""
Json = Any
PASSES = {"as drawn": "", "streaming": '"body.stream" = true'}


def die_with_parent() -> None:
    """Runs in a child before its program: whoever kills this run, by whatever signal, leaves no server behind."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def fuzz(url: str, pins: str, report: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """One run of schemathesis with our checks; the requests and answers go to `report` as HAR."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        text = (HERE / "schemathesis.toml").read_text()
        config.write(string.Template(text).substitute(MODEL=MODEL, KEY=KEY, PINS=pins))
        config.flush()
        command = ["schemathesis", "--config-file", config.name, "run", f"{url}/openapi.json"]
        command += ["--report", "har", "--report-har-path", str(report), *options]
        return subprocess.run(
            [str(Path(sys.executable).with_name(command[0])), *command[1:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=os.environ | {"CONTRACT_MODEL": MODEL, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            preexec_fn=die_with_parent,
        )


@contextmanager
def started(*command: str) -> Iterator[str]:
    """A server of ours on a free port."""
    port = free_port()
    command = (sys.executable, *command, "--port", str(port))
    process = subprocess.Popen(command, cwd=ROOT, preexec_fn=die_with_parent)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_ready(url, process, 120)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def fields_in_successes(report: Path) -> dict[str, set[str]]:
    """Per path, the request fields that took part in at least one 2xx answer."""
    seen: dict[str, set[str]] = {}
    for entry in json.loads(report.read_text())["log"]["entries"]:
        if not 200 <= entry["response"]["status"] < 300:
            continue
        try:
            body = json.loads(entry["request"].get("postData", {}).get("text") or "null")
        except ValueError:
            continue
        if isinstance(body, dict):
            path = "/" + entry["request"]["url"].split("/", 3)[3].partition("?")[0]
            seen.setdefault(path, set()).update(body)
    return seen


def offered_fields() -> dict[str, set[str]]:
    """Per path, the fields of its request schema that the server does not refuse by name."""
    bodies = {operation.path: operation.body for operation in OPERATIONS.values()}
    return {path: set(body.model_fields) - POLICIES[body].refused for path, body in bodies.items() if body is not None}


def first_example(document: Json, path: str) -> Json:
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return next(iter(content["examples"].values()))["value"]


def asked(url: str, path: str, body: Json = None) -> Json:
    """What a server answers, errors included."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    request = urllib.request.Request(url + path, None if body is None else json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            raw = reply.read()
    except urllib.error.HTTPError as error:
        raw = error.read()
    try:
        return json.loads(raw)
    except ValueError:
        return None


def paths_of(url: str) -> set[str]:
    """What the model behind a server can do: its operations except those that say it is not for them."""
    document = asked(url, "/openapi.json")
    found = {operation.path for operation in OPERATIONS.values()}
    for operation in OPERATIONS.values():
        if UnsupportedTask.code in operation.refusals:
            # By name, as everything else is asked: without one, another model of the server may be meant.
            answer = asked(url, operation.path, first_example(document, operation.path) | {"model": MODEL})
            error = answer.get("error") if isinstance(answer, dict) else None
            if isinstance(error, dict) and error.get("code") == UnsupportedTask.code:
                found.discard(operation.path)
    return found


def run_pass(url: str, name: str, paths: set[str]) -> tuple[subprocess.CompletedProcess[str] | None, Covered]:
    """One pass, and the fields that took part in its successes. Only operations that stream are asked to stream."""
    if PASSES[name]:
        paths = paths & {operation.path for operation in OPERATIONS.values() if operation.events}
    if not paths:
        return None, {}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "pass.har"
        options = [option for path in sorted(paths) for option in ("--include-path", path)]
        result = fuzz(url, PASSES[name], report, *options)
        return result, fields_in_successes(report) if report.exists() else {}


def gate(url: str, paths: set[str]) -> tuple[bool, Covered]:
    """Both passes, side by side, and the fields they covered."""
    good = True
    covered: Covered = {}
    with ThreadPoolExecutor(len(PASSES)) as pool:
        results = pool.map(lambda name: run_pass(url, name, paths), PASSES)
        for name, (result, successes) in zip(PASSES, results, strict=True):
            if result is None:
                continue
            failed = result.returncode != 0
            told = f"failed\n{result.stdout[-6000:]}{result.stderr[-2000:]}" if failed else "holds"
            print(f"pass {name!r}: {told}", flush=True)
            good &= not failed
            for path, fields in successes.items():
                covered.setdefault(path, set()).update(fields)
    return good, covered


def is_covered(covered: Covered, paths: set[str]) -> bool:
    """Whether every field that these paths offer took part in a success."""
    good = True
    for path, fields in offered_fields().items():
        if path not in paths:
            continue
        missing = sorted(fields - covered.get(path, set()))
        print(f"{path}: {len(fields) - len(missing)} of {len(fields)} offered request fields took part in a success")
        if missing:
            print(f"  never in a success, give it an example in openapi/: {', '.join(missing)}")
            good = False
    return good


def with_adapters(folder: Path) -> tuple[str, ...]:
    """The demo model, and an adapter that may be loaded as the examples do."""
    tiny_models.write_adapter(folder / "sql-adapter")
    return ("-m", "specserve.handlers.serve", *FLAGS, "--enable-lora", "--lora-dir", str(folder))


def tiny_models_hold(covered: Covered) -> tuple[bool, set[str]]:
    """The gate for each of the tiny models, one after the other; and the paths they are for."""
    good = True
    tried: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        for name, path in tiny_models.write_models(Path(folder)).items():
            command = ("-m", "specserve.handlers.serve", str(path), *FLAGS, *tiny_models.FLAGS[name])
            with started(*command, "--trust-request-chat-template") as url:
                pooling = {path for path in paths_of(url) if path in POOLING_PATHS}
                print(f"--- {name}: {', '.join(sorted(pooling))} ---", flush=True)
                holds, fields = gate(url, pooling)
            good &= holds
            tried |= pooling
            for where, names in fields.items():
                covered.setdefault(where, set()).update(names)
    return good, tried


def is_found(bug: Bug) -> bool:
    """Whether the bug turns each pass it concerns red, and for the right reason."""
    good = True
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        command = ["-m", "contract_tests.planted", bug.name, *FLAGS]
        if bug.model:
            command += [str(tiny_models.write_models(Path(folder))[bug.model]), *tiny_models.FLAGS[bug.model]]
        url = stack.enter_context(started(*command))
        for name in bug.passes:
            report = Path(folder) / "bug.har"
            result = fuzz(url, PASSES[name], report, "--max-failures", "1", "--include-path", bug.path)
            found = result.returncode == 1 and bug.symptom in result.stdout
            missed = "" if found else f"\n{result.stdout[-3000:]}{result.stderr[-1000:]}"
            print(f"planted bug {bug.name!r}, pass {name!r}: {'found' if found else 'NOT FOUND'}{missed}", flush=True)
            good &= found
    return good


def planted_bugs_are_found() -> bool:
    """A gate that cannot fail proves nothing."""
    with ThreadPoolExecutor(2) as pool:
        return all(list(pool.map(is_found, BUGS.values())))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", help="a running server; planted bugs are then left out")
    parser.add_argument("--only", choices=("writing", "pooling"), help="one kind of models, without planted bugs")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that servers are ended on the way
    if arguments.base_url:
        paths = paths_of(arguments.base_url)
        good, covered = gate(arguments.base_url, paths)
        return 0 if good & is_covered(covered, paths) else 1
    good, covered, tried = True, Covered(), set[str]()
    if arguments.only != "pooling":
        with tempfile.TemporaryDirectory() as folder, started(*with_adapters(Path(folder))) as url:
            tried = paths_of(url)
            good, covered = gate(url, tried)
    if arguments.only != "writing":
        holds, pooling = tiny_models_hold(covered)
        good, tried = good & holds, tried | pooling
    good &= is_covered(covered, tried)
    if arguments.only is None:
        untried = {operation.path for operation in OPERATIONS.values()} - tried
        if untried:
            print(f"no server was asked for {', '.join(sorted(untried))}")
        good &= not untried
        good &= planted_bugs_are_found()
    print("contract holds" if good else "contract is broken")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
