"""How each server is started: ours as users start it, the peers at the settings that were found fastest for them.

Where the peers are is told by a YAML file; what is missing in it is not measured:

    vllm: {executable: venv/bin/vllm, preload: [libiomp5.so, libtcmalloc_minimal.so.4]}
    llama-server: {executable: build/bin/llama-server, models: {small: small.gguf, large: large.gguf}}
    infinity: {executable: venv/bin/infinity_emb}

Each may say `version`, which is written into the result. Relative paths start at the file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.server import filled_cache_mib, kv_bytes_of_a_token

OURS = "specserve"
MODEL_NAME = "bench"
ENCODERS = ("encoder", "reranker")
PEERS = ("vllm", "llama-server", "infinity")
LLAMA_CONTEXT = {"np32": 65536, "np8": 16384}
VLLM_KV_GIB = {"small": 2, "large": 2, "encoder": 1, "reranker": 1}


class SettingsError(Exception):
    """The settings file names an unknown peer or something that is not there."""


@dataclass(frozen=True)
class Peer:
    executable: Path
    preload: tuple[Path, ...] = ()
    models: Mapping[str, Path] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True)
class Recipe:
    """One server of one model. `rows` are the names of the rows it is measured in; none: all of its model."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    api_root: str = "/v1"
    rows: frozenset[str] = frozenset()
    keeps_connections: bool = True
    kv_cache_mib: float = 0.0
    """What of the idle memory is the cache, where a server writes it before it is used."""

    @property
    def peer(self) -> str:
        """Several recipes may be one peer, each in the rows it is best in."""
        return self.name.split(" ")[0]

    def takes(self, row: str) -> bool:
        return not self.rows or row in self.rows


def read_settings(path: Path) -> dict[str, Peer]:
    """The peers of a settings file.

    Raises:
        SettingsError: a name that is not in PEERS, or a file that does not exist.
    """
    found = {}
    for name, values in (yaml.safe_load(path.read_text()) or {}).items():
        if name not in PEERS:
            raise SettingsError(f"{path} names the peer {name!r}; known are {', '.join(PEERS)}")
        found[name] = _peer(path, name, values)
    return found


def _peer(path: Path, name: str, values: dict[str, Any]) -> Peer:
    def place(word: str) -> Path:
        full = (path.parent / word).absolute()
        if not full.exists():
            raise SettingsError(f"{path}: {name} needs {full}, which does not exist")
        return full

    if "executable" not in values:
        raise SettingsError(f"{path}: {name} names no executable")
    return Peer(
        place(values["executable"]),
        tuple(place(word) for word in values.get("preload", ())),
        {model: place(word) for model, word in values.get("models", {}).items()},
        str(values.get("version", "")),
    )


def recipes(model: str, folder: Path, peers: Mapping[str, Peer], cores: str, flags: tuple[str, ...]) -> list[Recipe]:
    """All servers of a model; `{port}` in their commands stands for the port they get."""
    found = [_ours(model, folder, flags)]
    if "vllm" in peers:
        found.append(_vllm(model, folder, peers["vllm"], cores))
    if model in ENCODERS:
        if "infinity" in peers:
            found.append(_infinity(folder, peers["infinity"]))
    elif "llama-server" in peers and model in peers["llama-server"].models:
        found += _llama_servers(model, folder, peers["llama-server"], len(cores.split(",")))
    return found


def _ours(model: str, folder: Path, flags: tuple[str, ...]) -> Recipe:
    command = [sys.executable, "-m", "specserve.handlers.serve", str(folder), "--port", "{port}"]
    command += ["--served-model-name", MODEL_NAME]
    if model in ENCODERS:
        command += ["--dtype", "bfloat16"]
    return Recipe(OURS, (*command, *flags), kv_cache_mib=filled_cache_mib(folder))


def _vllm(model: str, folder: Path, peer: Peer, cores: str) -> Recipe:
    """Without Intel's OpenMP and tcmalloc it decodes 2.6 times slower on small models."""
    command = [str(peer.executable), "serve", str(folder), "--port", "{port}", "--served-model-name", MODEL_NAME]
    if model in ENCODERS:
        command += ["--runner", "pooling", "--max-model-len", "512", "--dtype", "bfloat16"]
    else:
        command += ["--max-model-len", "2048"]
    first, last = cores.split(",")[0], cores.split(",")[-1]
    variables = {
        "KMP_BLOCKTIME": "1",
        "VLLM_CPU_OMP_THREADS_BIND": f"{first}-{last}",
        "VLLM_CPU_KVCACHE_SPACE": str(VLLM_KV_GIB[model]),
        "VLLM_NO_USAGE_STATS": "1",
    }
    if peer.preload:
        variables["LD_PRELOAD"] = ":".join(map(str, peer.preload))
    return Recipe("vllm", tuple(command), variables, kv_cache_mib=1024.0 * VLLM_KV_GIB[model])


def _llama_servers(model: str, folder: Path, peer: Peer, threads: int) -> list[Recipe]:
    """With 32 slots for most rows; with 8 and one cache for all where that was faster.

    It closes connections after streamed answers without saying so.
    """
    token_mib = kv_bytes_of_a_token(folder) / (1 << 20)
    best_with_8 = frozenset({"decode c8", "prefix c8"})
    others = frozenset({"decode c1", "decode c32", "prefill c1", "prefill c8", "floor c32"})
    made = []
    for slots, rows in (("np32", others), ("np8", best_with_8)):
        context = LLAMA_CONTEXT[slots]
        command = [str(peer.executable), "-m", str(peer.models[model]), "-t", str(threads), "-tb", str(threads)]
        command += ["-fa", "on", "-np", slots[2:], "-c", str(context), "--port", "{port}", "--alias", MODEL_NAME]
        command += ["--kv-unified"] if slots == "np8" else []
        made.append(
            Recipe(
                f"llama-server {slots}",
                tuple(command),
                rows=rows,
                keeps_connections=False,
                kv_cache_mib=context * token_mib,
            )
        )
    return made


def _infinity(folder: Path, peer: Peer) -> Recipe:
    command = [str(peer.executable), "v2", "--model-id", str(folder), "--served-model-name", MODEL_NAME]
    command += ["--device", "cpu", "--engine", "torch", "--dtype", "bfloat16", "--port", "{port}"]
    return Recipe("infinity", tuple(command), {"DO_NOT_TRACK": "1"}, api_root="")
