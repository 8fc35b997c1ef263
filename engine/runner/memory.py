"""How much this process may use, and what it should: threads, the token budget of a step, KV blocks."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch

from specserve.engine.config import CacheConfig, SchedulerConfig
from specserve.engine.errors import InsufficientMemoryError, UnsupportedModelError
from specserve.engine.prefill_budget import PrefillBudget

CPU_TOKEN_BUDGET = 512
"""A prefill chunk delays everyone's next token: 512 tokens of a 0.5B model take about 1 s on two cores."""
GPU_TOKEN_BUDGET = 4096
CPU_STEP_TIME_RATIO = 2.5
"""Leaves room for what steps differ by: hardly any gap between tokens is three times as long as without prompts."""
CPU_DRAFT_ROWS = 32
GPU_DRAFT_ROWS = 128
"""Most tokens of a step with drafts. Where fewer pay, the times of the steps tell."""
CPU_ENCODER_BUDGET = 1024
GPU_ENCODER_BUDGET = 16384
CPU_CACHE_SHARE = 0.25
NUM_DUMMY_BLOCKS = 1
"""Block 0 is never handed out: padded rows of block tables name it."""
GIB = 1 << 30
PROMPT_LOGITS_BYTES = 256 << 20
"""Float32 logits of prompt positions that one step may hold, for requests that report their prompt's logprobs."""


def choose_token_budget(scheduler: SchedulerConfig, device: torch.device) -> int:
    """Tokens of one step."""
    if scheduler.max_num_batched_tokens is not None:
        return scheduler.max_num_batched_tokens
    budget = CPU_TOKEN_BUDGET if device.type == "cpu" else GPU_TOKEN_BUDGET
    return max(budget, scheduler.max_num_seqs)


def choose_prefill_budget(scheduler: SchedulerConfig, device: torch.device) -> PrefillBudget | None:
    """None where prompts may take as long as they take. Raises UnsupportedModelError.

    On GPUs steps are launched ahead, and how long one takes is not known when the next is put together.
    """
    ratio = scheduler.max_step_time_ratio
    if device.type == "cpu":
        ratio = CPU_STEP_TIME_RATIO if ratio is None else ratio
    elif ratio:
        raise UnsupportedModelError(
            f"max_step_time_ratio {ratio:g} is kept on CPUs only: on {device} steps are launched ahead of their times",
            "leave --max-step-time-ratio out; a lower --max-num-batched-tokens shortens the steps of prompts",
        )
    return PrefillBudget(ratio) if ratio else None


def choose_encoder_budget(scheduler: SchedulerConfig, max_model_len: int, device: torch.device) -> int:
    """Tokens of one step in which every text is whole. Raises UnsupportedModelError when one of them does not fit."""
    asked = scheduler.max_num_batched_tokens
    if asked is None:
        return max(CPU_ENCODER_BUDGET if device.type == "cpu" else GPU_ENCODER_BUDGET, max_model_len)
    if asked < max_model_len:
        raise UnsupportedModelError(
            f"max_num_batched_tokens is {asked}, but a text of up to {max_model_len} tokens is computed in one step",
            f"raise --max-num-batched-tokens to {max_model_len}, or pass --max-model-len {asked}",
        )
    return asked


def choose_reported_rows(vocab_size: int) -> int:
    """Prompt positions of one step whose logits are looked at."""
    return max(1, PROMPT_LOGITS_BYTES // (4 * vocab_size))


def choose_draft_rows(device: torch.device) -> int:
    """Tokens of a step up to which drafts may pay at all."""
    return CPU_DRAFT_ROWS if device.type == "cpu" else GPU_DRAFT_ROWS


def choose_num_blocks(
    cache: CacheConfig,
    *,
    block_size: int,
    bytes_per_block: int,
    max_model_len: int,
    max_num_seqs: int,
    available_bytes: int,
    device: torch.device,
) -> int:
    """Blocks to allocate, the dummy included.

    As many as `cache` says by number or by bytes; else enough for `max_num_seqs` sequences of `max_model_len`
    tokens, within what is available: on CPUs a share of it, where untouched blocks cost nothing because the
    system hands out pages when they are first written; on GPUs all of what `gpu_cache_bytes` found.

    Raises InsufficientMemoryError when not even one sequence of `max_model_len` tokens fits.
    """
    blocks_per_sequence = math.ceil(max_model_len / block_size)
    if cache.num_blocks is not None:
        num_blocks, origin = cache.num_blocks, "--num-gpu-blocks-override"
    elif cache.memory_bytes is not None:
        num_blocks, origin = cache.memory_bytes // bytes_per_block, "--kv-cache-memory-bytes"
    else:
        share = CPU_CACHE_SHARE if device.type == "cpu" else 1.0
        fitting = int(available_bytes * share) // bytes_per_block
        num_blocks = min(blocks_per_sequence * max_num_seqs + NUM_DUMMY_BLOCKS, fitting)
        origin = f"{share:.0%} of the {available_bytes / GIB:.2f} GiB available"
    if num_blocks < blocks_per_sequence + NUM_DUMMY_BLOCKS:
        usable = max(num_blocks - NUM_DUMMY_BLOCKS, 0)
        needed = (blocks_per_sequence + NUM_DUMMY_BLOCKS) * bytes_per_block
        flag = "--kv-cache-memory-bytes" if cache.num_blocks is None else origin
        remedies = [f"lower --max-model-len to at most {usable * block_size}"] if usable else []
        raise InsufficientMemoryError(
            f"one sequence of {max_model_len} tokens needs {needed / GIB:.2f} GiB of KV cache, but {origin} "
            f"holds {usable * block_size} tokens ({num_blocks * bytes_per_block / GIB:.2f} GiB)",
            ", ".join([*remedies, f"raise {flag}", "or free memory"]),
        )
    return num_blocks


def gpu_cache_bytes(total: int, free: int, step: int, utilization: float) -> int:
    """Bytes left for the cache on a GPU of which `free` of `total` are, when a step takes `step` for a while."""
    return max(0, int(total * utilization) - (total - free) - step)


def available_memory() -> int:
    """Bytes this process can still use on CPUs: the machine's, or less inside a container with a limit."""
    available = _meminfo_available()
    limits = [headroom for headroom in (_cgroup2_headroom(), _cgroup1_headroom()) if headroom is not None]
    return min([available, *limits])


def choose_num_threads(asked: int | None, num_engines: int = 1) -> int:
    """`asked`, OMP_NUM_THREADS, or the physical cores this process may run on, within its CPU quota.

    What nobody asked for is divided among the engines of a server: threads that wait for each other at the end of
    every product lose more than time when there are more of them than cores.

    Two hyperthreads of one core share its multipliers: a second thread there only costs.
    """
    if asked is not None:
        return asked
    from_environment = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if from_environment.isdigit() and int(from_environment) > 0:
        return int(from_environment)
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores = {_read(Path(topology.format(cpu))) or str(cpu) for cpu in cpus}
    quota = _cpu_quota()
    usable = len(cores) if quota is None else min(len(cores), math.ceil(quota))
    return max(1, usable // num_engines)


def _meminfo_available() -> int:
    for line in (_read(Path("/proc/meminfo")) or "").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cgroup_folders(controller: str) -> list[Path]:
    """The process's own control group and its ancestors, innermost first; `controller` "" is version 2."""
    for line in (_read(Path("/proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            root = Path("/sys/fs/cgroup") / controller
            own = root / path.lstrip("/")
            return [own, *(parent for parent in own.parents if parent.is_relative_to(root))]
    return []


def _cgroup2_headroom() -> int | None:
    return _headroom("", "memory.max", "memory.current", "inactive_file")


def _cgroup1_headroom() -> int | None:
    return _headroom("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _headroom(controller: str, limit_name: str, usage_name: str, reclaimable_name: str) -> int | None:
    """Least room below any limit on the way up; page cache that can be dropped counts as free."""
    rooms = []
    for folder in _cgroup_folders(controller):
        limit, usage = _read(folder / limit_name), _read(folder / usage_name)
        if limit is None or usage is None or not limit.isdigit():
            continue
        fields = dict(line.split()[:2] for line in (_read(folder / "memory.stat") or "").splitlines())
        rooms.append(max(int(limit) - int(usage) + int(fields.get(reclaimable_name, 0)), 0))
    return min(rooms) if rooms else None


def _cpu_quota() -> float | None:
    """CPUs' worth of time per period the control groups allow, or None."""
    quotas = []
    for folder in _cgroup_folders(""):
        quota, _, period = (_read(folder / "cpu.max") or "").partition(" ")
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) / int(period))
    for folder in _cgroup_folders("cpu"):
        quota, period = _read(folder / "cpu.cfs_quota_us") or "", _read(folder / "cpu.cfs_period_us") or ""
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            quotas.append(int(quota) / int(period))
    return min(quotas) if quotas else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
