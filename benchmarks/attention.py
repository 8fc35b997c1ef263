"""CPU attention by itself: the kernel, its pure-torch twin and plain gather + SDPA, on one layer's cache.

    taskset -c 0,1 env OMP_NUM_THREADS=2 python -m benchmarks.attention [--quick] [--isa avx2,torch] [--out]

Decode figures are GB/s of keys and values read, prefill figures GFLOP/s of the causal half; `--out` writes
benchmarks/results/attention-<date>-<commit>.json. Times are the fastest tenth and the median of a case's
repetitions. One layer is attended over and over, so a case smaller than the last-level cache is served by
it, while a model of many layers reads memory: compare with the copy and read bandwidth of the same run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import limits
from benchmarks.run import commit, cpu_name
from specserve.engine.attention.backend import AttentionMetadata, LayerCache, LayerSpec
from specserve.engine.attention.cpu import CpuBackend

RESULTS = Path(__file__).parent / "results"
BLOCK = 16
HEADS, KV_HEADS, SIZE = 14, 2, 64
DECODES = [(batch, context) for batch in (1, 8, 32) for context in (128, 1024, 4096)]
PREFILLS = [(256, 256), (512, 512), (1024, 1024), (512, 4096)]
"""(tokens, context): whole prompts, and a chunk at the end of a long one."""


def seconds_of(work: Callable[[], object], budget_s: float) -> tuple[float, float]:
    """Fastest tenth and median; the machine may be shared."""
    work()
    work()
    taken: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < budget_s or len(taken) < 5:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    taken.sort()
    return taken[len(taken) // 10], taken[len(taken) // 2]


def batch_of(query_len: int, seq_len: int, batch: int) -> AttentionMetadata:
    """Equal sequences whose blocks are scattered over the cache."""
    width = -(-seq_len // BLOCK)
    tables = torch.randperm(batch * width, generator=torch.Generator().manual_seed(0)).view(batch, width)
    position = torch.arange(seq_len - query_len, seq_len)
    slots = tables[:, position // BLOCK] * BLOCK + position % BLOCK
    return AttentionMetadata(
        query_start=torch.arange(0, (batch + 1) * query_len, query_len, dtype=torch.int32),
        seq_lens=torch.full((batch,), seq_len, dtype=torch.int32),
        block_tables=tables.to(torch.int32),
        slot_mapping=slots.flatten(),
        num_decodes=batch if query_len == 1 else 0,
        query_lens=[query_len] * batch,
        seq_lens_list=[seq_len] * batch,
    )


def fill(backend: CpuBackend, cache: LayerCache, batch: AttentionMetadata, dtype: torch.dtype) -> None:
    """Random keys and values in every slot of the sequences."""
    num_seqs, seq_len = len(batch.seq_lens_list), batch.seq_lens_list[0]
    whole = batch_of(seq_len, seq_len, num_seqs)
    backend.plan(whole)
    key = torch.randn(num_seqs * seq_len, KV_HEADS, SIZE, dtype=dtype)
    backend.write_kv(0, key, torch.randn_like(key), cache)


def gather_and_sdpa(cache: LayerCache, batch: AttentionMetadata, query: Tensor, scale: float) -> Tensor:
    """What one writes first: index the blocks, let torch group the heads."""
    query_len, seq_len = batch.query_lens[0], batch.seq_lens_list[0]
    tables = batch.block_tables.long()
    k = cache.keys[tables].flatten(1, 2)[:, :seq_len].transpose(1, 2)
    v = cache.values[tables].flatten(1, 2)[:, :seq_len].transpose(1, 2)
    q = query.view(len(tables), query_len, HEADS, SIZE).transpose(1, 2)
    causal = query_len == seq_len
    mask = None
    if query_len > 1 and not causal:
        mask = torch.arange(seq_len) <= torch.arange(seq_len - query_len, seq_len)[:, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=True)


def measure_case(
    kind: str, batch: AttentionMetadata, dtype: torch.dtype, isas: list[str], budget_s: float
) -> list[dict[str, Any]]:
    spec = LayerSpec(HEADS, KV_HEADS, SIZE, SIZE, dtype, SIZE**-0.5)
    num_seqs, query_len, seq_len = len(batch.query_lens), batch.query_lens[0], batch.seq_lens_list[0]
    num_blocks = batch.block_tables.numel()
    query = torch.randn(num_seqs * query_len, HEADS, SIZE, dtype=dtype)
    read = num_seqs * seq_len * KV_HEADS * SIZE * 2 * dtype.itemsize
    seen = query_len * seq_len - query_len * (query_len - 1) // 2
    operations = 4 * num_seqs * HEADS * SIZE * seen
    found: list[dict[str, Any]] = []

    def add(path: str, work: Callable[[], object]) -> None:
        fast, middle = seconds_of(work, budget_s)
        rate = (
            {"gb_s": round(read / fast / 1e9, 2), "gb_s_median": round(read / middle / 1e9, 2)}
            if kind == "decode"
            else {
                "gflop_s": round(operations / fast / 1e9, 1),
                "gflop_s_median": round(operations / middle / 1e9, 1),
            }
        )
        found.append(
            {"kind": kind, "dtype": str(dtype).removeprefix("torch."), "path": path, "batch": num_seqs}
            | {"tokens": query_len, "context": seq_len, "kv_mib": round(read / 2**20, 2)}
            | {"us": round(fast * 1e6, 1), "us_median": round(middle * 1e6, 1)}
            | rate
        )
        print(json.dumps(found[-1]), flush=True)

    for isa in isas:
        backend = CpuBackend([spec], torch.device("cpu"), BLOCK, isa=isa)
        if isa != "torch" and backend.kernel is None:
            print(f"# {isa}: {'; '.join(backend.describe())}", flush=True)
            continue
        (cache,) = backend.allocate(num_blocks)
        fill(backend, cache, batch, dtype)
        backend.plan(batch)
        add(isa, lambda backend=backend, cache=cache: backend.attend(0, query, cache))  # type: ignore[misc]
        if isa == "torch":
            add("gather+sdpa", lambda cache=cache: gather_and_sdpa(cache, batch, query, spec.scale))  # type: ignore[misc]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", default="avx512_bf16,avx512,avx2,torch", help="paths to measure")
    parser.add_argument("--dtype", default="bfloat16,float32")
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions")
    parser.add_argument("--out", action="store_true", help="write a result file")
    arguments = parser.parse_args()
    budget_s = 0.03 if arguments.quick else 0.3
    isas = arguments.isa.split(",")
    before = limits.measure()
    print(json.dumps({"limits": before}), flush=True)
    lines: list[dict[str, Any]] = []
    with torch.inference_mode():
        for name in arguments.dtype.split(","):
            dtype: torch.dtype = getattr(torch, name)
            for batch, context in DECODES:
                lines += measure_case("decode", batch_of(1, context, batch), dtype, isas, budget_s)
            for tokens, context in PREFILLS:
                lines += measure_case("prefill", batch_of(tokens, context, 1), dtype, isas, budget_s)
    after = limits.measure()
    print(json.dumps({"limits": after}), flush=True)
    if arguments.out:
        now = datetime.datetime.now(datetime.UTC)
        path = RESULTS / f"attention-{now:%Y-%m-%d}-{commit()}.json"
        path.write_text(
            json.dumps(
                {
                    "machine": {"cpu": cpu_name(), "cores": sorted(os.sched_getaffinity(0))},
                    "threads": torch.get_num_threads(),
                    "torch": torch.__version__,
                    "commit": commit(),
                    "date": now.isoformat(timespec="seconds"),
                    "flags": vars(arguments),
                    "shape": {"heads": HEADS, "kv_heads": KV_HEADS, "head_size": SIZE, "block_size": BLOCK},
                    "load_average": os.getloadavg(),
                    "limits_before": before,
                    "limits_after": after,
                    "runs": lines,
                },
                indent=1,
            )
            + "\n"
        )
        print(path)


if __name__ == "__main__":
    main()
