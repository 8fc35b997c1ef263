"""The CPU kernels are built once where a compiler is, and attention works where none is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from paged_batch import CPU, assert_close, attend, reference, spec_of

from specserve.engine.attention import cpu_kernel
from specserve.engine.attention.backend import LayerSpec
from specserve.engine.attention.cpu import CpuBackend
from specserve.engine.native import build

LENGTHS = [(1, 40), (9, 30)]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, so that nothing built before is found."""
    for variable in ("CXX", "SPECSERVE_CPU_ISA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SPECSERVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel, built by two processes at once into one empty cache."""
    try:
        build.find_compiler()
    except build.NoCompilerError as error:
        pytest.skip(str(error))
    cache = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "specserve.engine.native.build"]
    environment = os.environ | {"SPECSERVE_CACHE": str(cache)}
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    (library,) = cache.iterdir()
    assert all(str(library) in words for words in printed)
    return library


def kernel_missing(backend: CpuBackend) -> str:
    """The one note that tells why there is no kernel, after checking that attention is right without it."""
    assert backend.kernel is None
    (note,) = backend.describe()

    def make(layers: list[LayerSpec], block_size: int) -> CpuBackend:
        return CpuBackend(layers, CPU, block_size)

    spec = spec_of()
    assert_close(attend(make, spec, LENGTHS), attend(reference, spec, LENGTHS))
    return note


def test_two_builds_at_once_leave_one_whole_library(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECSERVE_CACHE", str(library.parent))
    assert cpu_kernel.Kernel().library.path == library


def test_a_build_waits_for_the_one_under_way_and_takes_its_result(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first build is held in its compiler; the second must neither compile nor end before it."""
    try:
        build.find_compiler()
    except build.NoCompilerError as error:
        pytest.skip(str(error))
    compiling, go_on, compilations = threading.Event(), threading.Event(), []

    def compile_slowly(compiler: list[str], library: Path) -> None:
        compilations.append(library)
        compiling.set()
        assert go_on.wait(60)
        library.write_text("built")

    monkeypatch.setattr(build, "_build", compile_slowly)
    assert build.has_to_build()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(build.find_or_build)
        assert compiling.wait(60)
        second = pool.submit(build.find_or_build)
        with pytest.raises(TimeoutError):
            second.result(5 * build.LOCK_INTERVAL_S)
        go_on.set()
        assert first.result(60) == second.result(60)
    assert len(compilations) == 1
    assert not build.has_to_build()
    assert list(cache.iterdir()) == compilations


def test_a_builder_that_fails_leaves_its_turn_to_the_next(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        build.find_compiler()
    except build.NoCompilerError as error:
        pytest.skip(str(error))

    def fail(compiler: list[str], library: Path) -> None:
        raise build.BuildError("out of luck")

    with monkeypatch.context() as patched:
        patched.setattr(build, "_build", fail)
        with pytest.raises(build.BuildError, match="out of luck"):
            build.find_or_build()
    monkeypatch.setattr(build, "_build", lambda compiler, library: library.write_text("built"))
    assert build.find_or_build().read_text() == "built"


def test_a_library_is_found_again_without_a_compiler(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECSERVE_CACHE", str(library.parent))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    assert build.find_or_build() == library


def test_without_a_compiler_torch_attends(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "no C++ compiler was found" in kernel_missing(CpuBackend([spec_of()], CPU, 16))


def test_a_missing_cxx_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O9")
    assert "no-such-compiler" in kernel_missing(CpuBackend([spec_of()], CPU, 16))


def test_with_a_broken_compiler_torch_attends(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "broken-c++"
    fail = "echo 'x.cpp:1: error: out of luck'; exit 7"
    compiler.write_text(f"#!/bin/sh\ncase $1 in --version) echo broken 1.0;; *) {fail};; esac\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    note = kernel_missing(CpuBackend([spec_of()], CPU, 16))
    assert "failed with status 7: x.cpp:1: error: out of luck" in note
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        build.find_compiler()
    except build.NoCompilerError as error:
        pytest.skip(str(error))
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPECSERVE_CACHE", str(tmp_path / "file" / "cache"))
    note = kernel_missing(CpuBackend([spec_of()], CPU, 16))
    assert str(tmp_path / "file" / "cache") in note
    assert "SPECSERVE_CACHE" in note


def test_a_file_that_is_no_library_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong.so").write_text("not a library")
    monkeypatch.setattr(build, "find_or_build", lambda: tmp_path / "wrong.so")
    assert "wrong.so" in kernel_missing(CpuBackend([spec_of()], CPU, 16))


def test_a_kernel_that_fails_its_self_test_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    if CpuBackend([spec_of()], CPU, 16).kernel is None:
        pytest.skip("no kernel here")
    truth = cpu_kernel.attend_one_sequence
    monkeypatch.setattr(cpu_kernel, "attend_one_sequence", lambda *given: truth(*given) + 0.1)
    assert "self-test is off by 1." in kernel_missing(CpuBackend([spec_of()], CPU, 16))


def test_the_variable_turns_the_kernel_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECSERVE_CPU_ISA", "torch")
    assert "as asked for" in kernel_missing(CpuBackend([spec_of()], CPU, 16))


def test_an_instruction_set_the_processor_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if CpuBackend([spec_of()], CPU, 16).kernel is None:
        pytest.skip("no kernel here")
    monkeypatch.setenv("SPECSERVE_CPU_ISA", "avx1024")
    assert "'avx1024' was asked for; this processor has" in kernel_missing(CpuBackend([spec_of()], CPU, 16))


def test_the_kernel_runs_on_the_threads_of_torch() -> None:
    backend = CpuBackend([spec_of()], CPU, 16)
    if backend.kernel is None:
        pytest.skip("no kernel here")
    threads = torch.get_num_threads()
    try:
        for count in (1, 4, 2):
            torch.set_num_threads(count)
            assert backend.kernel.library.max_threads() == count
        torch.set_num_threads(4)
        large = torch.randn(1 << 20)
        large.exp()  # wakes torch's pool
        before = len(list(Path("/proc/self/task").iterdir()))

        def make(layers: list[LayerSpec], block_size: int) -> CpuBackend:
            return CpuBackend(layers, CPU, block_size)

        attend(make, spec_of((8, 8), 64), [(1, 300)] * 8)
        assert len(list(Path("/proc/self/task").iterdir())) == before
    finally:
        torch.set_num_threads(threads)
    mapped = {Path(line.split()[-1]) for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    others = {"scikit_learn.libs"}  # transformers imports it if it is there; it keeps its pool to itself
    assert sum("libgomp" in path.name and path.parent.name not in others for path in mapped) == 1
