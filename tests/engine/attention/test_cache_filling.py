"""The first pages of a cache are there soon, in the order of its blocks, and what is in them is kept."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specserve.engine.attention import cache_filling
from specserve.engine.attention.cache_filling import CacheFiller, pieces


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.fixture
def filling() -> None:
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        try:
            page.madvise(cache_filling.MADV_POPULATE_WRITE)
        except OSError as error:
            pytest.skip(f"this kernel brings no pages in: {error}")


@pytest.mark.usefixtures("filling")
def test_pages_are_there_before_they_are_written() -> None:
    # Mapped anew: what lazy_zeros gets may be memory that was used before, and is there.
    tensors = [torch.frombuffer(mmap.mmap(-1, 16 << 20), dtype=torch.bfloat16).view(64, -1) for _ in range(2)]
    tensors[1][3, 5] = 7.0
    before = resident_bytes()
    filler = CacheFiller(tensors)
    filler.start()
    filler.join()
    assert resident_bytes() - before > 0.8 * sum(tensor.nbytes for tensor in tensors)
    assert tensors[1][3, 5] == 7.0
    assert int(torch.count_nonzero(tensors[0]) + torch.count_nonzero(tensors[1])) == 1


@given(
    sizes=st.lists(st.integers(0, 40_000), max_size=6), at_once=st.integers(4096, 100_000), most=st.integers(1, 10**6)
)
def test_pieces_cover_what_is_filled_and_nothing_else(sizes: list[int], at_once: int, most: int) -> None:
    tensors = [torch.empty(size, dtype=torch.uint8) for size in sizes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_filling, "AT_ONCE", at_once)
        patch.setattr(cache_filling, "MOST_BYTES", most)
        found = list(pieces(tensors))
    total = sum(sizes)
    places = [(tensor.data_ptr(), tensor.nbytes) for tensor in tensors]
    for start, length in found:
        assert any(first - mmap.PAGESIZE < start and start + length <= first + size for first, size in places)
    for first, size in places:
        for address in range(first, first + int(size * min(1.0, most / max(total, 1))), 512):
            assert any(start <= address < start + length for start, length in found)


def test_only_the_beginning_of_a_large_cache_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_filling, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(cache_filling, "AT_ONCE", 1 << 18)
    tensor = torch.empty(8 << 20, dtype=torch.uint8)
    found = list(pieces([tensor]))
    assert [length for _, length in found] == pytest.approx([1 << 18] * 4, abs=mmap.PAGESIZE)
    assert found[0][0] <= tensor.data_ptr() < sum(found[0])
