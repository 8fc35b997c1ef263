"""Builds the CPU kernels with the user's C++ compiler, once, into a cache directory.

`python -m specserve.engine.native.build` does it at install; the first start does it otherwise (two or
three seconds). A library is found again by its sources' hash, so a machine that lost its compiler keeps it.

Reads three variables: CXX (compiler), SPECSERVE_CACHE (cache directory) and XDG_CACHE_HOME.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

FOLDER = Path(__file__).parent
SOURCES = (*sorted(FOLDER.glob("*.cpp")), *sorted(FOLDER.glob("*.h")))

FLAGS = ("-O3", "-std=c++17", "-fPIC", "-fno-exceptions", "-fno-rtti", "-fno-math-errno")
_AVX2 = ("-mavx2", "-mfma")
_AVX512 = (*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
ISA_FLAGS: dict[str, tuple[str, ...]] = {
    "avx512_bf16": (*_AVX512, "-mavx512vnni", "-mavx512bf16"),
    "avx512": _AVX512,
    "avx2": _AVX2,
}
"""Instruction sets, best first. Every processor with AVX512_BF16 has VNNI."""
UNITS: tuple[tuple[str, str | None], ...] = (
    ("pages", None),
    *((name, isa) for name in ("attention", "sampling") for isa in ISA_FLAGS),
    ("linear", "avx512_bf16"),
    ("quantized_linear", "avx512_bf16"),
    ("screening", "avx512_bf16"),
    ("decoder", "avx512_bf16"),
    ("encoder", "avx512_bf16"),
    ("page_runs", "avx512"),
)
"""Source and instruction set of each object file of the one library; None is what every x86-64 runs."""

COMPILE_TIMEOUT_S = 300
LOCK_INTERVAL_S = 0.1


class BuildError(Exception):
    """The kernels cannot be built here; the message says why and, where there is one, the way out."""


class NoCompilerError(BuildError):
    """There is nothing to build with; that is a normal state of a machine."""


def find_or_build() -> Path:
    """The library: from the cache, else built now. Raises BuildError."""
    library, compiler = _locate()
    if not library.exists():
        _make_cache(library.parent)
        with _one_at_a_time(library):
            if not library.exists():
                _build(compiler, library)
    return library


def has_to_build() -> bool:
    """Whether `find_or_build` will take seconds."""
    try:
        return not _locate()[0].exists()
    except BuildError:
        return False


def _locate() -> tuple[Path, list[str]]:
    """Where the library is or will be, and the compiler for it (none for a library that outlived its compiler)."""
    if platform.system() != "Linux" or platform.machine().lower() not in ("x86_64", "amd64"):
        raise BuildError(f"the kernels are for Linux on x86-64, not for {platform.system()} on {platform.machine()}")
    folder, sources = cache_folder(), _hash_of(*(source.read_bytes() for source in SOURCES))
    try:
        compiler = find_compiler()
    except NoCompilerError:
        built = sorted(folder.glob(f"kernels-{sources}-*.so"), key=lambda path: path.stat().st_mtime)
        if built:
            return built[-1], []
        raise
    command = [repr((FLAGS, ISA_FLAGS, UNITS, _link_flags(), compiler)), compiler_version(compiler)]
    return folder / f"kernels-{sources}-{_hash_of(*(part.encode() for part in command))}.so", compiler


def cache_folder() -> Path:
    """Where built libraries are kept: $SPECSERVE_CACHE, else the user's cache directory."""
    if own := os.environ.get("SPECSERVE_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specserve"


def find_compiler() -> list[str]:
    """$CXX with its arguments, else the first of g++, clang++, c++. Raises NoCompilerError."""
    if own := shlex.split(os.environ.get("CXX", "")):
        if shutil.which(own[0]) is None:
            raise NoCompilerError(f"CXX names {own[0]}, which is not found; correct or unset CXX")
        return own
    for name in ("g++", "clang++", "c++"):
        if found := shutil.which(name):
            return [found]
    raise NoCompilerError("no C++ compiler was found (g++, clang++, c++ or $CXX); install one and start again")


def compiler_version(compiler: list[str]) -> str:
    return (_run([*compiler, "--version"]).splitlines() or ["unknown"])[0]


def _make_cache(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> BuildError:
    return BuildError(f"the cache {folder} cannot be written ({error}); set SPECSERVE_CACHE")


@contextmanager
def _one_at_a_time(library: Path) -> Iterator[None]:
    """Let servers that start together build once: the others wait, until the library is there or its builder gave up.

    The cache folder itself is locked, so nothing is left behind, whatever ends this process. Where it cannot be
    locked, or its holder takes longer than a compiler may, everybody builds; that is slower and as right.
    """
    holder = os.open(library.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        give_up = time.monotonic() + COMPILE_TIMEOUT_S
        while time.monotonic() < give_up and not library.exists():
            try:
                fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(LOCK_INTERVAL_S)
            except OSError:
                break
        yield
    finally:
        os.close(holder)


def _build(compiler: list[str], library: Path) -> None:
    """Compile all variants at once and link them; the library appears under its name whole or not at all."""
    try:
        unfinished_work = tempfile.TemporaryDirectory(dir=library.parent, prefix="building-")
    except OSError as error:
        raise _unwritable(library.parent, error) from error
    with unfinished_work as folder:
        objects, running = [], []
        for name, isa in UNITS:
            objects.append(str(Path(folder) / f"{name}-{isa}.o"))
            variant = () if isa is None else (*ISA_FLAGS[isa], f"-DSPECSERVE_ISA={isa}")
            source = str(FOLDER / f"{name}.cpp")
            running.append(_start([*compiler, *FLAGS, *variant, "-c", source, "-o", objects[-1]]))
        _finish(*running)
        unfinished = Path(folder) / library.name
        _run([*compiler, "-shared", *objects, "-o", str(unfinished), *_link_flags()])
        os.replace(unfinished, library)


def _link_flags() -> tuple[str, ...]:
    """Link with the OpenMP runtime torch brought along: one thread pool. Else with the system's libgomp."""
    folder = Path(torch.__file__).parent / "lib"
    own = sorted(folder.glob("libgomp*.so*"))
    if own:
        return (str(own[0]), f"-Wl,-rpath,{folder}", "-Wl,--as-needed")
    return ("-lgomp", "-Wl,--as-needed")


def _start(command: list[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error}") from error


def _finish(*processes: subprocess.Popen[str]) -> str:
    """Wait for all of them; their output. Raises BuildError with the first error of one that failed."""
    outputs, failures = [], []
    for process in processes:
        try:
            outputs.append(process.communicate(timeout=COMPILE_TIMEOUT_S)[0])
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            failures.append(f"the compiler took more than {COMPILE_TIMEOUT_S} s and was stopped")
            continue
        if process.returncode != 0:
            lines = outputs[-1].strip().splitlines() or ["it printed nothing"]
            first = next((line for line in lines if "error" in line), lines[-1]).strip()
            failures.append(f"the compiler failed with status {process.returncode}: {first[:200]}")
    if failures:
        raise BuildError(failures[0])
    return "".join(outputs)


def _run(command: list[str]) -> str:
    return _finish(_start(command))


def _hash_of(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def main() -> int:
    """Build now and say what happened. Having no compiler is no failure, a compiler that fails is one."""
    start = time.perf_counter()
    try:
        library = find_or_build()
    except BuildError as error:
        print(f"CPU kernels not built: {error}", file=sys.stderr)
        print("The CPU will compute in pure torch, which is slower.", file=sys.stderr)
        return 0 if isinstance(error, NoCompilerError) else 1
    print(f"CPU kernels: {library} ({time.perf_counter() - start:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
