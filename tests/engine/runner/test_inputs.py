"""A batch becomes flat tensors: every token at its place, in its slot."""

from __future__ import annotations

import pytest
import torch
from tiny_checkpoints import batch_of, request_of

from specserve.engine.runner.inputs import build_inputs

CPU = torch.device("cpu")
BLOCK_SIZE = 4


def test_a_mixed_batch_is_flattened_in_order() -> None:
    decode = request_of("decode", [10, 11, 12, 13, 14, 15], [7, 3])
    chunk = request_of("chunk", [20, 21, 22, 23, 24, 25, 26, 27, 28], [5, 9, 2])
    inputs = build_inputs(batch_of((decode, 5, 1), (chunk, 2, 4)), BLOCK_SIZE, CPU)
    assert inputs.token_ids.tolist() == [[15, 22, 23, 24, 25]]
    assert inputs.positions.tolist() == [[5, 2, 3, 4, 5]]
    attention = inputs.attention
    attention.check(BLOCK_SIZE)
    assert attention.slot_mapping.tolist() == [3 * 4 + 1, 5 * 4 + 2, 5 * 4 + 3, 9 * 4, 9 * 4 + 1]
    assert attention.query_start.tolist() == [0, 1, 5]
    assert attention.seq_lens.tolist() == attention.seq_lens_list == [6, 6]
    assert attention.query_lens == [1, 4]
    assert attention.num_decodes == 1
    assert attention.block_tables.tolist() == [[7, 3], [5, 9]]
    assert attention.query_start.dtype == attention.seq_lens.dtype == attention.block_tables.dtype == torch.int32
    assert attention.slot_mapping.dtype == torch.int64


def test_only_sequences_whose_last_token_is_computed_are_sampled() -> None:
    whole = request_of("whole", [1, 2, 3], [1])
    part = request_of("part", [1, 2, 3, 4], [2])
    end = request_of("end", [5, 6, 7, 8, 9], [3, 4])
    inputs = build_inputs(batch_of((part, 0, 2), (whole, 0, 3), (end, 3, 2)), BLOCK_SIZE, CPU)
    assert inputs.sample_rows.tolist() == [4, 6]
    assert inputs.sampling == [whole, end]


def test_shorter_block_tables_are_padded_with_the_dummy_block() -> None:
    long = request_of("long", list(range(9)), [4, 5, 6])
    short = request_of("short", [1, 2], [3, 8, 9])  # has more blocks than it needs now
    inputs = build_inputs(batch_of((long, 0, 9), (short, 0, 2)), BLOCK_SIZE, CPU)
    assert inputs.attention.block_tables.tolist() == [[4, 5, 6], [3, 0, 0]]


def test_too_few_blocks_are_an_error_that_names_the_request() -> None:
    request = request_of("r1", list(range(5)), [4])
    with pytest.raises(ValueError, match="request r1 has 1 blocks of 4 tokens, 2 are needed for 5 tokens"):
        build_inputs(batch_of((request, 0, 5)), BLOCK_SIZE, CPU)


def test_an_empty_batch_is_empty() -> None:
    inputs = build_inputs(batch_of(), BLOCK_SIZE, CPU)
    assert inputs.token_ids.shape == (1, 0)
    assert inputs.sampling == []
