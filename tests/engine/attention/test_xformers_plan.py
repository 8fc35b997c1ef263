"""Batches and tables are rounded up to few sizes, and what a kernel may read is exact."""

from __future__ import annotations

import pytest
import torch
from attention_cases import MIXED, Case, steps_of

from specserve.engine.attention.xformers_plan import PrefillBatch, batch_bucket, width_bucket


@pytest.mark.parametrize(
    ("num_decodes", "bucket"),
    [(1, 1), (3, 4), (8, 8), (9, 16), (17, 24), (128, 128), (129, 192), (1000, 1024)],
)
def test_batch_buckets(num_decodes: int, bucket: int) -> None:
    assert batch_bucket(num_decodes) == bucket


@pytest.mark.parametrize(
    ("width", "block_size", "bucket"),
    [
        (1, 64, 32),
        (32, 64, 32),
        (33, 64, 128),
        (129, 64, 512),
        (2048, 64, 2048),
        (2049, 64, 4096),
        (1, 16, 128),
    ],
)
def test_width_buckets(width: int, block_size: int, bucket: int) -> None:
    assert width_bucket(width, block_size) == bucket


@pytest.mark.parametrize("window", [None, 1, 10, 64, 1000])
def test_prefill_gathers_the_slots_its_queries_see_and_no_others(window: int | None) -> None:
    device = torch.device("cpu")
    for batch in steps_of(Case("", MIXED), device)[0]:
        metadata = batch.metadata
        chunks = PrefillBatch(metadata, window, 64)
        if not chunks.query_lens:
            continue
        wanted = []
        for row in range(metadata.num_decodes, len(metadata.query_lens)):
            query_len, seq_len = metadata.query_lens[row], metadata.seq_lens_list[row]
            oldest = 0 if window is None else max(0, seq_len - query_len - window + 1)
            wanted += [int(metadata.block_tables[row, at // 64]) * 64 + at % 64 for at in range(oldest, seq_len)]
        assert chunks.slots().tolist() == wanted
        assert sum(chunks.kv_lens) == len(wanted)
