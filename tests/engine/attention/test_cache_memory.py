"""Cache memory is zero, aligned and not resident before it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from specserve.engine.attention.cache_memory import ALIGNMENT, lazy_zeros


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(3, 5, 7), (1,), (0, 4), (1000, 16, 2, 64)])
def test_it_equals_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    memory = lazy_zeros(shape, dtype)
    assert torch.equal(memory, torch.zeros(shape, dtype=dtype))
    assert memory.is_contiguous()
    assert memory.data_ptr() % ALIGNMENT == 0
    memory.fill_(1.0)
    assert torch.equal(memory, torch.ones(shape, dtype=dtype))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_unwritten_memory_is_not_resident() -> None:
    def resident_pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    before = resident_pages()
    memory = lazy_zeros((1 << 30,), torch.bfloat16)
    assert resident_pages() - before < (memory.nbytes // 4096) // 20
