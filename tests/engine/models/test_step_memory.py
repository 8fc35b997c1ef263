"""Memory that steps share: enough for each, the same where it can be, and bounded."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from specserve.engine.models.step_memory import ALIGNMENT, StepMemory, places

MOST_KEPT = 4096


@given(st.lists(st.integers(0, 2 * MOST_KEPT), max_size=20))
def test_every_step_gets_what_it_asks_for_and_no_more_is_kept_than_may_be(sizes: list[int]) -> None:
    memory = StepMemory(MOST_KEPT)
    largest, last_address = 0, 0
    for size in sizes:
        taken = memory.take(size)
        assert taken.shape == (size,)
        if size <= MOST_KEPT:
            assert taken.untyped_storage().nbytes() <= MOST_KEPT
            if 0 < size <= largest:
                assert taken.data_ptr() == last_address
            if size:
                largest, last_address = max(largest, size), taken.data_ptr()


def test_what_is_larger_does_not_touch_what_is_kept() -> None:
    memory = StepMemory(MOST_KEPT)
    kept = memory.take(MOST_KEPT).fill_(7)
    memory.take(MOST_KEPT + 1).fill_(9)
    assert torch.equal(memory.take(MOST_KEPT), kept)
    assert bool((kept == 7).all())


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=9))
def test_pieces_lie_behind_each_other_and_are_aligned(sizes: list[int]) -> None:
    offsets, num_bytes = places(*sizes)
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    ends = [offset + size for offset, size in zip(offsets, sizes, strict=True)]
    assert all(end <= following for end, following in zip(ends, [*offsets[1:], num_bytes], strict=True))
    assert num_bytes < sum(sizes) + ALIGNMENT * len(sizes)
