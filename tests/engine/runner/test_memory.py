"""How many blocks, tokens a step and threads the runner takes, and what it says when memory is short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from specserve.engine.config import CacheConfig, SchedulerConfig
from specserve.engine.errors import InsufficientMemoryError
from specserve.engine.runner import memory
from specserve.engine.runner.memory import choose_num_blocks, choose_num_threads, choose_token_budget, gpu_cache_bytes

CPU, GPU = torch.device("cpu"), torch.device("cuda")
GIB = 1 << 30


def blocks(cache: CacheConfig | None = None, *, available: int = GIB, max_num_seqs: int = 4) -> int:
    """For blocks of 16 tokens and 1 MiB, and sequences of up to 1000 tokens: 63 blocks each."""
    return choose_num_blocks(
        cache or CacheConfig(),
        block_size=16,
        bytes_per_block=1 << 20,
        max_model_len=1000,
        max_num_seqs=max_num_seqs,
        available_bytes=available,
        device=CPU,
    )


def test_the_cache_of_a_gpu_gets_what_the_rest_leaves_of_the_share() -> None:
    assert gpu_cache_bytes(80 * GIB, 60 * GIB, 2 * GIB, 0.9) == 50 * GIB
    assert gpu_cache_bytes(80 * GIB, 5 * GIB, 2 * GIB, 0.9) == 0


class TestNumBlocks:
    def test_a_number_is_taken_as_it_is(self) -> None:
        assert blocks(CacheConfig(num_blocks=100)) == 100

    def test_bytes_are_divided_into_blocks(self) -> None:
        assert blocks(CacheConfig(memory_bytes=70 * (1 << 20) + 5)) == 70

    def test_enough_for_all_sequences_and_the_dummy_when_memory_allows(self) -> None:
        assert blocks(available=4 * GIB) == 4 * 63 + 1

    def test_never_more_than_a_quarter_of_the_memory(self) -> None:
        assert blocks(available=GIB, max_num_seqs=64) == 256

    @pytest.mark.parametrize(
        ("cache", "flag"),
        [
            (CacheConfig(num_blocks=63), "--num-gpu-blocks-override"),
            (CacheConfig(memory_bytes=63 << 20), "--kv-cache-memory-bytes"),
        ],
    )
    def test_less_than_one_sequence_is_refused(self, cache: CacheConfig, flag: str) -> None:
        with pytest.raises(InsufficientMemoryError) as raised:
            blocks(cache)
        assert "1000 tokens needs 0.06 GiB" in raised.value.cause
        assert "holds 992 tokens" in raised.value.cause
        assert "--max-model-len to at most 992" in raised.value.remedy
        assert f"raise {flag}" in raised.value.remedy

    def test_exactly_one_sequence_is_enough(self) -> None:
        assert blocks(CacheConfig(num_blocks=64)) == 64

    def test_no_memory_at_all_is_refused_with_a_way_out(self) -> None:
        with pytest.raises(InsufficientMemoryError, match=r"25% of the 0.00 GiB available"):
            blocks(available=0)


class TestTokenBudget:
    def test_it_depends_on_the_device(self) -> None:
        assert choose_token_budget(SchedulerConfig(), CPU) == 512
        assert choose_token_budget(SchedulerConfig(), GPU) == 4096

    def test_it_holds_a_token_of_every_sequence(self) -> None:
        assert choose_token_budget(SchedulerConfig(max_num_seqs=600), CPU) == 600

    def test_it_can_be_asked(self) -> None:
        assert choose_token_budget(SchedulerConfig(max_num_batched_tokens=99), CPU) == 99


def fake_files(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    monkeypatch.setattr(memory, "_read", lambda path: files.get(str(path)))


class TestAvailableMemory:
    MEMINFO = "MemTotal: 100 kB\nMemAvailable:    2048 kB"

    def test_without_limits_it_is_the_machine_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_files(monkeypatch, {"/proc/meminfo": self.MEMINFO})
        assert memory.available_memory() == 2048 * 1024

    def test_a_container_s_limit_counts_with_its_droppable_cache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        group = "/sys/fs/cgroup/a"
        fake_files(
            monkeypatch,
            {
                "/proc/meminfo": self.MEMINFO,
                "/proc/self/cgroup": "0::/a/b",
                f"{group}/memory.max": "1000000",
                f"{group}/memory.current": "700000",
                f"{group}/memory.stat": "anon 5\ninactive_file 100000",
                f"{group}/b/memory.max": "max",
                f"{group}/b/memory.current": "5",
            },
        )
        assert memory.available_memory() == 400000

    def test_version_1_limits_count_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        group = "/sys/fs/cgroup/memory"
        fake_files(
            monkeypatch,
            {
                "/proc/meminfo": self.MEMINFO,
                "/proc/self/cgroup": "3:memory:/x\n2:cpu,cpuacct:/x",
                f"{group}/memory.limit_in_bytes": "900000",
                f"{group}/memory.usage_in_bytes": "200000",
            },
        )
        assert memory.available_memory() == 700000

    def test_this_machine_has_some(self) -> None:
        assert memory.available_memory() > 1 << 20


class TestThreads:
    @pytest.fixture(autouse=True)
    def four_cpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)

    def siblings(self, monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
        path = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
        pairs = {path.format(cpu): f"{cpu % 2},{cpu % 2 + 2}" for cpu in range(4)}
        fake_files(monkeypatch, {**pairs, **{re.sub("__", "/", name): text for name, text in more.items()}})

    def test_hyperthreads_of_a_core_count_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.siblings(monkeypatch)
        assert choose_num_threads(None) == 2

    def test_without_topology_every_cpu_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_files(monkeypatch, {})
        assert choose_num_threads(None) == 4

    def test_a_cpu_quota_bounds_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_files(monkeypatch, {"/proc/self/cgroup": "0::/", "/sys/fs/cgroup/cpu.max": "150000 100000"})
        assert choose_num_threads(None) == 2

    def test_what_is_asked_wins_over_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert choose_num_threads(None) == 3
        assert choose_num_threads(1) == 1

    def test_engines_of_a_server_divide_the_cores_that_nobody_gave_to_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake_files(monkeypatch, {})
        assert [choose_num_threads(None, engines) for engines in (1, 2, 3, 9)] == [4, 2, 1, 1]
        assert choose_num_threads(3, 2) == 3

    def test_unreadable_files_are_no_limits(self, tmp_path: Path) -> None:
        assert memory._read(tmp_path / "absent") is None
